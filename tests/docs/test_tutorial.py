"""docs/tutorial.md as written: from a folder of photographs to verdicts, and on."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from docs_pages import DOCS, ROOT, blocks

from isoserve.training.onnx_graph import read_model

PORT = "8000"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def program(folder: Path) -> str:
    """A PATH on which ``isoserve`` and ``python`` are the ones under test."""
    for name, words in (("isoserve", "-m isoserve "), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
def test_the_tutorial_leads_from_photographs_to_verdicts_and_on(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    # Another server may be on the tutorial's port: only the number is replaced.
    script = "\n".join(blocks(DOCS / "tutorial.md", "sh")).replace(PORT, free_port())
    done = subprocess.run(
        # What fails leaves no server behind, and what waits forever ends.
        ["timeout", "500", "bash", "-e", "-c", f"trap 'kill $(jobs -p)' ERR\n{script}"],
        cwd=empty,
        env={
            **os.environ,
            "PATH": program(tmp_path / "bin"),
            "PYTHONPATH": str(ROOT),
            "ORT_DISABLE_TELEMETRY": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = {
        Path(line.split()[-1]).name: line.split()
        for line in done.stdout.splitlines()
        if line.startswith(("known", "unknown"))
    }
    assert table["chessboard.jpg"][0] == "unknown"
    for name in ("clock.jpg", "leaf.heic", "mug.jpg"):
        assert table[name][0:3:2] == ["known", name.partition(".")[0]]
    verdict = json.loads((empty / "verdict.json").read_text())
    assert verdict["model"] == "photos"
    assert verdict["ood"]["is_ood"] is True
    assert "mug known" in done.stdout.splitlines()  # what ask.py prints
    results = json.loads((empty / "results" / "evaluation.json").read_text())
    assert (results["test"]["n"], results["test"]["accuracy"] > 0.9) == (30, True)
    assert results["out_distributions"][0]["auroc"] > 0.99
    assert "<title>photos: model card</title>" in (empty / "card.html").read_text()
    assert len(list((empty / "next" / "chessboard").iterdir())) == 1
    assert len(list((empty / "next").glob("*/IMG_*"))) == 3 * 48
    _, card = read_model(empty / "recalibrated.onnx")
    assert card.calibration.n == 66
