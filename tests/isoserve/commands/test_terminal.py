"""What files say of themselves is shown, never obeyed; and what is no file is not waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from image_bytes import colour
from running_server import ROOT
from tiny_model import TinyModel, write_tiny_model

from isoserve.models.text import escape_control

SEQUENCES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\r\U000e0041"
CLASSES = (f"red{SEQUENCES}", "green", "blue")


def program(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )


def assert_harmless(output: bytes) -> None:
    text = output.decode()
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert "owned" in text  # it is shown all the same


@pytest.fixture(scope="module", name="hostile")
def _hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("m") / "m.onnx", TinyModel(classes=CLASSES))


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_inspect_escapes_what_a_terminal_would_obey(hostile: Path, flags: list[str]) -> None:
    done = program("inspect", hostile, *flags)
    assert done.returncode == 0, done.stderr
    assert_harmless(done.stdout)
    if flags:
        assert json.loads(done.stdout)["classes"] == list(CLASSES)


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_predict_escapes_it_too(hostile: Path, tmp_path: Path, form: str) -> None:
    image = tmp_path / f"a{SEQUENCES}.png"
    image.write_bytes(colour(255, 0, 0))
    done = program("predict", image, "--model", hostile, "--format", form)
    assert done.returncode == 0, done.stderr
    assert_harmless(done.stdout)
    if form == "jsonl":
        answer = json.loads(done.stdout)
        assert answer["prediction"]["label"] == CLASSES[0]
        assert answer["path"] == str(image)


def test_and_so_do_error_messages(tmp_path: Path) -> None:
    for arguments in (["inspect", tmp_path / SEQUENCES], ["predict", SEQUENCES, "--model", "m"]):
        done = program(*arguments)
        assert done.returncode == 2
        assert_harmless(done.stderr)
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["plain", "Möwe 海鷗", 'q"uote', "", "a\nb"])
def test_escaped_json_is_the_same_json(text: str) -> None:
    line = json.dumps([text, SEQUENCES], ensure_ascii=False, indent=1)
    assert json.loads(escape_control(line, "\n")) == [text, SEQUENCES]
    if text.isprintable():
        assert escape_control(text) == text


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(hostile: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    red = tmp_path / "red.png"
    red.write_bytes(colour(255, 0, 0))
    for odd in (pipe, Path("/dev/zero")):
        done = program("predict", odd, red, "--model", hostile)
        assert done.returncode == 1, done.stderr
        assert b"not a regular file" in done.stdout
        assert b"red.png" in done.stdout
        assert program("inspect", odd).returncode == 2
        assert program("predict", red, "--model", odd).returncode == 2
        refused = program("serve", hostile, "--port", 0, "--token-file", odd)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert b"not a regular file" in refused.stderr
    folder = program("predict", tmp_path, "--model", hostile)  # what is no file is left out there
    assert (folder.returncode, len(folder.stdout.splitlines())) == (0, 2)


def test_what_a_shell_hands_over_is_read(hostile: Path) -> None:
    for given in ("-", "/dev/stdin"):
        done = program("predict", given, "--model", hostile, stdin=colour(0, 255, 0))
        assert done.returncode == 0, done.stdout + done.stderr
        assert b"green" in done.stdout
