"""``isoserve score``: every image has one row, whatever dies on the way."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from image_bytes import encode
from running_server import ROOT
from tiny_model import TinyModel, write_tiny_model

from isoserve.cli import cli
from isoserve.score.pool import ProcessPool, UnitFailed
from isoserve.score.units import Unit, plan_units
from isoserve.score.worker import Job, Worker, counts_of

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGES = 23
BROKEN = (3, 11)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, 9, 9, 3), dtype=np.uint8)
    return [b"junk" if i in BROKEN else encode("PNG", pixels[i]) for i in range(IMAGES)]


@pytest.fixture(scope="module")
def folder(bodies: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, body in enumerate(bodies):
        (folder / f"{index:02d}.png").write_bytes(body)
    return folder


def score(*arguments: object) -> Result:
    words = ["score", *map(str, arguments)]
    return CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [
        row
        for file in sorted(output.glob("part-*.parquet"))
        for row in parquet.read_table(file).to_pylist()
    ]


def predicted(model: Path, folder: Path) -> list[dict[str, Any]]:
    done = CliRunner().invoke(
        cli, ["predict", str(folder), "--model", str(model), "--format", "jsonl"]
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def same_as_predicted(rows: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
    assert len(rows) == len(lines) == IMAGES
    for row, line in zip(rows, lines, strict=True):
        if "error" in line:
            assert (row["error"], row["label"]) == (line["error"]["reason"], None)
            continue
        assert row["error"] is None
        assert row["label"] == line["prediction"]["label"]
        assert row["is_ood"] == line["ood"]["is_ood"]
        assert row["p_value"] == pytest.approx(line["ood"]["p_value"], abs=1e-6)


def test_a_folder_is_scored_as_predict_does_row_by_row(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    done = score(folder, "--model", model, "--output", tmp_path, "--workers", 2, "--unit-images", 5)
    assert done.exit_code == 0
    rows = rows_of(tmp_path)
    same_as_predicted(rows, predicted(model, folder))
    assert [row["id"] for row in rows] == [str(folder / f"{i:02d}.png") for i in range(IMAGES)]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["images"]["scored"] == IMAGES
    assert summary["images"]["failed"] == len(BROKEN)
    assert sum(bucket["count"] for bucket in summary["p_values"]) == IMAGES - len(BROKEN)
    assert sum(entry["ood"] for entry in summary["classes"]) == summary["images"]["ood"]
    assert "I don't know" in (tmp_path / "summary.html").read_text().replace("&#x27;", "'")


@pytest.mark.parametrize("nested", [False, True], ids=["bytes", "hugging face's struct"])
def test_parquet_row_groups_and_tars_give_the_same_rows(
    model: Path, folder: Path, bodies: list[bytes], tmp_path: Path, nested: bool
) -> None:
    images = [{"bytes": body, "path": None} for body in bodies] if nested else bodies
    table = arrow.table({"key": [f"k{i}" for i in range(IMAGES)], "image": images})
    parquet.write_table(table, tmp_path / "images.parquet", row_group_size=4)
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        for index, body in enumerate(bodies):
            for name, content in ((f"{index:02d}.png", body), (f"{index:02d}.cls", b"1")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    expected = predicted(model, folder)
    for name in ("images.parquet", "images.tar"):
        output = tmp_path / name.replace(".", "-of-")
        done = score(tmp_path / name, "--model", model, "--output", output, "--unit-images", 8)
        assert done.exit_code == 0
        same_as_predicted(rows_of(output), expected)
    assert rows_of(tmp_path / "images-of-parquet")[5]["id"] == "k5"
    assert len([*plan_units([str(tmp_path / "images.parquet")], 8)]) == 3
    assert len([*plan_units([str(tmp_path / "*.parquet")], 1)]) == 6


def test_a_rerun_does_what_is_missing_and_counts_all(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = (folder, "--model", model, "--output", tmp_path, "--unit-images", 5)
    assert score(*arguments).exit_code == 0
    first = json.loads((tmp_path / "summary.json").read_text())
    gone, kept = tmp_path / "part-0000001.parquet", tmp_path / "part-0000002.parquet"
    gone.unlink()
    (tmp_path / "_unfinished").mkdir(exist_ok=True)
    (tmp_path / "_unfinished" / "part-0000001.parquet.0").write_bytes(b"half")
    before = kept.stat().st_mtime_ns
    assert score(*arguments).exit_code == 0
    assert gone.exists()
    assert kept.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "summary.json").read_text()) == first
    assert len(rows_of(tmp_path)) == IMAGES
    assert not [*(tmp_path / "_unfinished").glob("*")]


def test_another_model_or_alpha_is_refused_on_a_rerun(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert score(folder, "--model", model, "--output", output).exit_code == 0
    other = write_tiny_model(tmp_path / "other.onnx", TinyModel(seed=5))
    assert_refused(folder, "--model", other, "--output", output, says="another --output")
    alpha = ("--alpha", 0.2)
    assert_refused(folder, "--model", model, "--output", output, *alpha, says="with other alpha")


def test_bad_input_is_one_line_and_nothing_is_written(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    table = arrow.table({"name": ["a"], "size": [1]})
    parquet.write_table(table, tmp_path / "none.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.csv").write_text("x")
    for source, says in (
        (tmp_path / "nowhere", "no file or folder"),
        (tmp_path / "empty", "no images in the folder"),
        (tmp_path / "file.csv", "neither a folder nor .parquet, .tar or .txt"),
    ):
        assert_refused(source, "--model", model, "--output", output, says=says)
    assert_refused(folder, "--model", tmp_path / "m", "--output", output, says="cannot read")
    assert not [*output.glob("*")]
    assert_refused(
        *(tmp_path / "none.parquet", "--model", model, "--output", output),
        says="its columns are name, size; name one by --image-column",
    )


def assert_refused(*arguments: object, says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", "score", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Poisoned(Worker):
    """Dies with the process of any unit of this index."""

    def score(self, unit: Unit) -> Any:
        if unit.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(unit)


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isoserve.score.pool._work", _work_poisoned)


def _work_poisoned(pipe: Any, job: Job, gpu: str | None) -> None:
    from isoserve.score import pool as room

    room.Worker = Poisoned  # type: ignore[misc]
    room._work(pipe, job, gpu)


def test_a_unit_that_kills_its_process_is_named_and_the_others_are_scored(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    arguments = ["score", str(folder), "--model", str(model), "--output", str(tmp_path)]
    done = CliRunner().invoke(cli, [*arguments, "--unit-images", "5", "--workers", "2"])
    assert done.exit_code == 1
    assert "unit 1 (05.png ...) failed twice" in done.stderr
    assert "signal 9" in done.stderr
    (failed,) = json.loads((tmp_path / "_failed.json").read_text())
    assert failed["unit"]["index"] == 1
    assert len(rows_of(tmp_path)) == IMAGES - 5
    monkeypatch.undo()
    assert score(*arguments[1:], "--unit-images", 5).exit_code == 0
    assert len(rows_of(tmp_path)) == IMAGES
    assert not (tmp_path / "_failed.json").exists()


def test_a_killed_worker_is_replaced_and_its_unit_is_scored(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    pool = ProcessPool(job_of(model, tmp_path), 1)
    try:
        (unit,) = plan_units([str(folder)], 100)
        pool._workers[0].process.kill()
        pool.submit(unit)
        ((_, outcome),) = pool.outcomes()
        assert isinstance(outcome, UnitFailed)
        pool.submit(unit)
        ((_, outcome),) = pool.outcomes()
        assert not isinstance(outcome, UnitFailed)
        assert outcome.images == IMAGES
    finally:
        pool.close()
    assert counts_of(str(tmp_path / unit.file_name)) == outcome


def test_a_killed_driver_leaves_no_worker_and_no_half_file(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    lists = tmp_path / "list.txt"
    lists.write_text("\n".join(f"{folder}/{i % IMAGES:02d}.png" for i in range(3000)))
    output = tmp_path / "out"
    words = [str(lists), "--model", str(model), "--output", str(output), "--unit-images", "50"]
    process = subprocess.Popen(
        [sys.executable, "-m", "isoserve", "score", *words, "--workers", "2"], cwd=ROOT
    )
    deadline = time.monotonic() + 60
    while not [*output.glob("part-*")] and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert run(*words).returncode == 0
    assert len(rows_of(output)) == 3000
    assert json.loads((output / "summary.json").read_text())["images"]["scored"] == 3000


def job_of(model: Path, output: Path) -> Job:
    from hashlib import sha256

    return Job(str(model), sha256(model.read_bytes()).hexdigest(), str(output), 0.05)


def test_ray_scores_the_same_rows(model: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    options = ("--address", "local", "--workers", 1, "--unit-images", 10)
    done = run(folder, "--model", model, "--output", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    same_as_predicted(rows_of(tmp_path), predicted(model, folder))
