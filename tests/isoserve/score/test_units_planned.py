"""What a run is cut into: bounded, in order, and the same after a death."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from image_bytes import colour
from tiny_model import write_tiny_model

from isoserve.cli import cli
from isoserve.models.errors import InputError
from isoserve.score.unit_table import MOST_SOURCES, UnitTable
from isoserve.score.units import Unit, plan_units

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx")


def score(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["score", *map(str, arguments)])


def rows_of(output: Path) -> list[dict[str, object]]:
    files = sorted(output.glob("part-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def many(units: int, paths: int) -> Iterator[Unit]:
    for index in range(units):
        sources = [f"s3://bucket/a/long/prefix/{index}/{i}.jpg" for i in range(paths)]
        yield Unit(index=index, kind="paths", sources=sources, images=paths)


def test_units_are_written_and_read_without_ever_holding_them_all(tmp_path: Path) -> None:
    table = UnitTable(str(tmp_path))
    units, paths = 300, 1000
    tracemalloc.start()
    firsts = table.write(many(units, paths))
    read = sum(len(unit.sources) for unit in table.read(firsts, set()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == units * paths
    assert firsts == [0, 100, 200, 300]
    # All of them take over 50 MB here, and a file's worth a third of that.
    assert peak < 60e6
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.parquet")) < 10 * units * paths
    assert firsts[1] * paths == MOST_SOURCES


def test_what_is_done_is_passed_over_and_a_whole_file_of_it_not_read(tmp_path: Path) -> None:
    table = UnitTable(str(tmp_path))
    firsts = table.write(many(250, 1000))
    (tmp_path / "_units" / "0000100.parquet").unlink()
    done = {*range(100, 200), 3, 249}
    found = [unit.index for unit in table.read(firsts, done)]
    assert found == [i for i in range(250) if i not in done]
    with pytest.raises(InputError, match="cannot read"):
        list(table.read(firsts, {*range(100, 199)}))


def test_the_plan_names_no_image_and_a_rerun_asks_the_sources_nothing(
    model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(7):
        (images / f"{index}.png").write_bytes(colour(index, 0, 0))
    arguments = (images, "--model", model, "--output", tmp_path / "out", "--unit-images", 2)
    assert score(*arguments).exit_code == 0
    plan = json.loads((tmp_path / "out" / "_plan.json").read_text())
    assert (plan["firsts"], plan["images"]) == ([0, 4], 7)
    assert ".png" not in json.dumps(plan)
    # One more image is another run's, and one that has gone is a row that says so.
    (images / "9.png").write_bytes(colour(9, 0, 0))
    (images / "6.png").unlink()
    (tmp_path / "out" / "part-0000003.parquet").unlink()
    assert score(*arguments).exit_code == 0
    rows = rows_of(tmp_path / "out")
    assert [Path(str(row["id"])).name for row in rows] == [f"{i}.png" for i in range(7)]
    assert [row["error"] for row in rows] == [None] * 6 + ["unreadable"]


def test_a_planning_that_was_cut_off_is_begun_again(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.png").write_bytes(colour(0, 0, 0))
    left = tmp_path / "out" / "_units"
    left.mkdir(parents=True)
    (left / "0000500.parquet").write_bytes(b"half")
    assert score(images, "--model", model, "--output", tmp_path / "out").exit_code == 0
    assert [file.name for file in left.iterdir()] == ["0000000.parquet"]


def test_an_output_that_is_torn_is_named(model: Path, tmp_path: Path) -> None:
    image = tmp_path / "0.png"
    image.write_bytes(colour(0, 0, 0))
    arguments = (image, "--model", model, "--output", tmp_path / "out")
    assert score(*arguments).exit_code == 0
    part = tmp_path / "out" / "part-0000000.parquet"
    part.write_bytes(part.read_bytes()[:-10])
    done = score(*arguments)
    assert isinstance(done.exception, InputError)
    assert f"'{part}' is not whole" in str(done.exception)
    assert "remove it" in str(done.exception)


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "BOM"])
def test_lists_of_paths_as_people_write_them(
    model: Path, tmp_path: Path, ending: str, mark: bytes
) -> None:
    for name in ("a.png", " b.png", "c [1]*.png", "d::e.png", "ünï#?.png"):
        (tmp_path / name).write_bytes(colour(1, 2, 3))
    names = ["a.png", "", "  ", " b.png", "gone.png", "a.png", "", "c [1]*.png"]
    names += ["d::e.png", "ünï#?.png", "folder"]
    (tmp_path / "folder").mkdir()
    lines = [f"{tmp_path}/{name}" if name.strip() else name for name in names]
    for last in ("", ending):
        listed = tmp_path / "list.txt"
        listed.write_bytes(mark + (ending.join(lines) + last).encode())
        output = tmp_path / f"out{len(last)}"
        assert score(listed, "--model", model, "--output", output).exit_code == 0
        rows = rows_of(output)
        assert [row["id"] for row in rows] == [line for line in lines if line.strip()]
        bad = [Path(str(row["id"])).name for row in rows if row["error"] == "unreadable"]
        assert bad == ["gone.png", "folder"]
        assert sum(row["error"] is None for row in rows) == 6


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", b"\xef\xbb\xbf"])
def test_a_list_without_a_path_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"no paths in '.*list.txt'"):
        list(plan_units([str(tmp_path / "list.txt")], 10))


def test_a_list_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.png\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"cannot read '.*list.txt': .*utf-8"):
        list(plan_units([str(tmp_path / "list.txt")], 10))


def test_a_folder_below_a_hidden_one_is_searched_and_a_hidden_one_within_is_not(
    tmp_path: Path,
) -> None:
    root = tmp_path / ".cache" / "images"
    for name in ("b/2.png", "1.png", ".hidden/3.png", "@eaDir/4.png", "b/.5.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(colour(0, 0, 0))
    for source in (str(root), root.as_uri()):
        (unit,) = plan_units([source], 10)
        assert [Path(name).relative_to(source).as_posix() for name in unit.sources] == [
            "1.png",
            "b/2.png",
        ]


def test_torn_parquet_files_are_units_that_fail_and_the_others_are_scored(
    model: Path, tmp_path: Path
) -> None:
    table = arrow.table({"image": [colour(i, 0, 0) for i in range(6)]})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=3)
    whole = buffer.getvalue()
    (tmp_path / "a.parquet").write_bytes(whole)
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.parquet").write_bytes(b"")
    # The end is whole and what it names is not there.
    (tmp_path / "d.parquet").write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[-900:])
    (tmp_path / "e.parquet").write_bytes(whole)
    done = score(tmp_path / "*.parquet", "--model", model, "--output", tmp_path / "out")
    assert done.exit_code == 1
    failed = json.loads((tmp_path / "out" / "_failed.json").read_text())
    named = {Path(each["unit"]["sources"][0]).name for each in failed}
    assert named == {"b.parquet", "c.parquet", "d.parquet"}
    assert all(each["reason"] for each in failed)
    assert len(rows_of(tmp_path / "out")) == 12
    # Mended, the same command does the rest.
    for name in "bcd":
        (tmp_path / f"{name}.parquet").write_bytes(whole)
    done = score(tmp_path / "*.parquet", "--model", model, "--output", tmp_path / "out")
    assert done.exit_code == 0
    assert len(rows_of(tmp_path / "out")) == 30
    assert not (tmp_path / "out" / "_failed.json").exists()
