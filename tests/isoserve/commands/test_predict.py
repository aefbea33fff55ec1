"""``isoserve predict``: files, folders and standard input, by a model file and by a server."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from image_bytes import colour, encode
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, reference, write_tiny_model

from isoserve.client.client import Client
from isoserve.client.results import Problem
from isoserve.commands.image_paths import find_images
from isoserve.commands.predict import in_order, predict, table_line
from isoserve.commands.predictors import RemotePredictor
from isoserve.models.errors import InputError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx")


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def folder_of(root: Path, images: np.ndarray) -> Path:
    for place, pixels in enumerate(images):
        path = root / f"{place % 3}" / f"{place:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode("PNG", pixels))
    return root


def run(*arguments: object, code: int = 0, stdin: bytes | None = None) -> Result:
    done = CliRunner().invoke(predict, [str(each) for each in arguments], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def lines(*arguments: object, code: int = 0, stdin: bytes | None = None) -> list[dict]:
    done = run(*arguments, "--format", "jsonl", code=code, stdin=stdin)
    return [json.loads(line) for line in done.stdout.splitlines()]


def flat(entry: dict, name: str = "") -> dict[str, object]:
    """Nested objects as one: {"ood": {"alpha": 1}} -> {"ood.alpha": 1}."""
    found: dict[str, object] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            found |= flat(value, f"{name}{key}.")
        elif isinstance(value, list):
            found |= flat({str(place): each for place, each in enumerate(value)}, f"{name}{key}.")
        else:
            found[name + key] = value
    return found


def test_a_folder_gets_the_verdicts_of_the_formulas_in_order_of_names(
    tmp_path: Path, model: Path
) -> None:
    images = noise(100)
    found = lines(folder_of(tmp_path, images), "--model", model, "--top-k", 3)
    expected = reference(images)
    order = sorted(range(100), key=lambda place: (place % 3, place))
    assert [Path(entry["path"]).stem for entry in found] == [f"{place:05}" for place in order]
    for entry, place in zip(found, order, strict=True):
        assert (entry["model"], entry["version"]) == ("tiny", 1)
        assert entry["prediction"] == entry["top_k"][0]
        assert entry["prediction"]["index"] == expected["probabilities"][place].argmax()
        assert len(entry["top_k"]) == 3
        ood = entry["ood"]
        assert ood["p_value"] == pytest.approx(expected["p_value"][place], abs=1e-6)
        assert ood["class_p_value"] == pytest.approx(expected["class_p_value"][place], abs=1e-6)
        assert ood["entropic_score"] == pytest.approx(expected["entropic_score"][place], abs=1e-5)
        assert ood["is_ood"] == (np.float32(ood["p_value"]) <= np.float32(0.05))


def test_a_server_gives_the_lines_that_the_model_file_gives(
    tmp_path: Path, model: Path, server: RunningServer
) -> None:
    folder = folder_of(tmp_path, noise(70))
    (folder / "2" / "broken.png").write_bytes(encode("PNG", noise(1)[0])[:60])
    (folder / "2" / "other.jpg").write_bytes(b"GIF8 not")
    here = lines(folder, "--model", model, "--alpha", 0.3, code=1)
    there = lines(folder, "--url", server.url, "--alpha", 0.3, code=1)
    assert len(here) == len(there) == 72
    for local, remote in zip(here, there, strict=True):
        # The last digit of a float may depend on which images share a batch.
        assert flat(local) == pytest.approx(flat(remote), abs=1e-5)


def test_one_bad_file_does_not_stop_the_others_and_the_exit_code_says_so(
    tmp_path: Path, model: Path
) -> None:
    folder = folder_of(tmp_path, noise(90))
    for name, content in (
        ("empty.png", b""),
        ("text.jpg", b"hello"),
        ("cut.png", colour(1, 2, 3)[:40]),
    ):
        (folder / "0" / name).write_bytes(content)
    (folder / "0" / "gone.png").symlink_to(tmp_path / "nowhere")
    found = lines(folder, "--model", model, code=1)
    failed = {Path(entry["path"]).name for entry in found if "error" in entry}
    assert failed == {"empty.png", "text.jpg", "cut.png", "gone.png"}
    assert sum("ood" in entry for entry in found) == 90
    assert all(entry["error"]["detail"] for entry in found if "error" in entry)
    done = run(folder, "--model", model, code=1)
    assert "94 images:" in done.stderr
    assert "4 failed" in done.stderr


def test_files_folders_and_standard_input_mix(tmp_path: Path, model: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "blue.png").write_bytes(colour(0, 0, 255))
    (tmp_path / "green.dat").write_bytes(colour(0, 255, 0))
    found = lines(
        tmp_path / "green.dat", "-", tmp_path / "one", "--model", model, stdin=colour(255, 0, 0)
    )
    assert [entry["prediction"]["label"] for entry in found] == ["green", "red", "blue"]
    assert found[1]["path"] == "-"


def test_the_table_is_plain_text_in_a_pipe_one_line_an_image(tmp_path: Path, model: Path) -> None:
    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    (tmp_path / "strange\n\x1b[31m.png").write_bytes(colour(128, 128, 128))
    done = run(tmp_path, "--model", model)
    header, red, strange = done.stdout.splitlines()
    assert header.split() == ["verdict", "p-value", "class", "prob.", "reason", "image"]
    assert red.split()[0] == "known"
    assert red.split()[2] == "red"
    assert red.endswith("red.png")
    assert strange.split()[0] == "unknown"
    assert "between two classes" not in red
    assert strange[header.index("reason") :].startswith("between two classes ")
    assert strange[header.index("image") :].startswith(str(tmp_path))
    assert red[header.index("image") :].startswith(str(tmp_path))
    assert "\x1b" not in done.stdout
    assert strange.endswith(r"strange\u000a\u001b[31m.png")
    assert done.stderr.startswith("2 images: 1 known, 1 unknown, 0 failed")


def test_the_line_in_the_documents_has_the_fields_of_a_line(tmp_path: Path, model: Path) -> None:
    (tmp_path / "grey.png").write_bytes(colour(128, 128, 128))
    (found,) = lines(tmp_path, "--model", model)
    page = Path(__file__).parents[3] / "docs" / "command-line.md"
    shown = [json.loads(line) for line in page.read_text().splitlines() if line[:9] == '{"path": ']
    assert flat(shown[0]).keys() == flat(found).keys()
    assert shown[1].keys() == {"path", "error"}
    assert shown[0]["ood"]["reason"] in ("entropic", "boundary", "density")


def test_a_name_that_is_not_text_is_shown_all_the_same(tmp_path: Path, model: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(colour(255, 0, 0))
    (found,) = lines(tmp_path, "--model", model)
    assert found["path"].endswith("\ufffd.png")
    assert found["prediction"]["label"] == "red"


def test_hidden_files_and_other_endings_are_left_out_of_a_folder(tmp_path: Path) -> None:
    for name in (".hidden.png", "notes.txt", ".cache/a.png", "b/c/D.JPG", "a.jpeg", "z.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.jpeg", "z.webp", "b/c/D.JPG"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{image}",), "give either --model"),
        (("{image}", "--model", "{model}", "--url", "http://x"), "give either --model"),
        (("{folder}/nothing", "--model", "{model}"), "no file or folder"),
        (("{folder}/empty", "--model", "{model}"), "no images in the folder"),
        (("{image}", "--model", "{folder}/none.onnx"), "none.onnx: the file cannot be read"),
        (("{image}", "--model", "{image}"), "ONNX Runtime refuses it"),
        (("{image}", "--model", "{model}", "--alpha", "1"), "--alpha is 1.0"),
        (("{image}", "--url", "http://127.0.0.1:9", "--token", "sécret"), "not of printable ASCII"),
        (("{image}", "--url", "http://127.0.0.1:9"), "no answer from http://127.0.0.1:9"),
    ],
)
def test_bad_usage_is_one_line_that_says_what_would_be_right(
    tmp_path: Path, model: Path, arguments: Sequence[str], words: str
) -> None:
    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    (tmp_path / "empty").mkdir()
    given = [
        each.format(image=tmp_path / "red.png", folder=tmp_path, model=model) for each in arguments
    ]
    with pytest.raises(InputError, match=words) as caught:
        run(*given)
    assert "\n" not in str(caught.value)


def test_a_file_over_the_byte_limit_fails_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large_noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "large.png").write_bytes(encode("PNG", large_noise))
    (tmp_path / "small.png").write_bytes(colour(255, 0, 0))
    monkeypatch.setenv("ISOSERVE_MAX_IMAGE_BYTES", "5000")
    large, small = lines(tmp_path, "--model", model, code=1)
    assert large["error"]["reason"] == "too_many_bytes"
    assert small["prediction"]["label"] == "red"


def test_lower_limits_of_a_server_are_met_by_smaller_requests(
    tmp_path: Path, model: Path, start_server: StartServer
) -> None:
    server = start_server(model, "--max-batch-images", "2")
    found = lines(folder_of(tmp_path, noise(10)), "--url", server.url)
    assert len(found) == 10


def test_a_server_that_stays_busy_fails_the_images_and_an_unknown_model_stops(
    tmp_path: Path,
) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(colour(255, 0, 0))

    def remote(status: int) -> RemotePredictor:
        problem = {"status": status, "reason": "r", "detail": "d", "id": "i"}
        answer = httpx.Response(status, json=problem, headers={"Retry-After": "9999"})
        http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
        return RemotePredictor(Client("http://x", http=http), None, None)

    assert remote(429)([path, path]) == [Problem(429, "r", "d", "i")] * 2
    assert remote(500)([path, path]) == [Problem(500, "r", "d", "i")] * 2
    with pytest.raises(Exception, match="404 r: d"):
        remote(404)([path])


@pytest.mark.parametrize("status", [200, 405, 501])
def test_another_program_at_the_address_ends_it_before_anything_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    answer = httpx.Response(status, text="<html>", request=httpx.Request("POST", "http://x/"))
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    monkeypatch.setattr("isoserve.commands.predict.Client", lambda url, **_: Client(url, http=http))
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        pytest.raises(InputError, match="none of an Isoserve server"),
    ):
        predict.main([str(tmp_path), "--url", "http://x"], standalone_mode=False)
    assert printed.getvalue() == ""


def test_work_runs_ahead_by_a_few_batches_only_and_comes_back_in_order() -> None:
    taken = 0
    lock = threading.Lock()

    def batches() -> Iterator[list[Path]]:
        nonlocal taken
        for place in range(50):
            with lock:
                taken += 1
            yield [Path(str(place))]

    problem = Problem(0, "", "", "")
    ahead = 0
    order = []
    for path, _ in in_order(lambda paths: [problem] * len(paths), batches(), threads=3):
        order.append(int(str(path)))
        ahead = max(ahead, taken - len(order))
    assert order == list(range(50))
    assert ahead <= 6


def test_an_error_in_a_batch_ends_the_work_with_that_error() -> None:
    def fail(paths: Sequence[Path]) -> list[Problem]:
        raise InputError(f"no {paths[0]}")

    with pytest.raises(InputError, match="no 0"):
        list(in_order(fail, iter([[Path(str(place))] for place in range(100)]), threads=2))


def test_columns_stand_under_their_headings() -> None:
    failed = table_line("a.png", Problem(400, "x", "broken", ""))
    assert failed.startswith("failed ")
    assert failed.endswith("  a.png: broken")


def test_a_class_with_a_line_break_takes_one_line(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.onnx", TinyModel(classes=("a\nb", "c\nd")))
    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    _, line = run(tmp_path / "red.png", "--model", model).stdout.splitlines()
    assert r"\u000a" in line


def test_classes_longer_than_the_column_stay_apart(tmp_path: Path) -> None:
    name = "a class with a name far longer than its column"
    model = write_tiny_model(tmp_path / "m.onnx", TinyModel(classes=(name, "b")))
    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    _, line = run(tmp_path / "red.png", "--model", model).stdout.splitlines()
    assert f"{name} " in line
