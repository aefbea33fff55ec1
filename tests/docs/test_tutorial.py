"""docs/tutorial.md as written: from an empty folder to a verdict."""

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
def test_the_tutorial_leads_from_an_empty_folder_to_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    # Another server may be on the tutorial's port: only the number is replaced.
    script = "\n".join(blocks(DOCS / "tutorial.md", "sh")).replace(PORT, free_port())
    done = subprocess.run(
        ["bash", "-e", "-c", script],
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
    assert table["circle.png"][0::2][:2] == ["known", "circle"]
    assert table["triangle.png"][0::2][:2] == ["known", "triangle"]
    assert table["rings.png"][0] == "unknown"
    verdict = json.loads((empty / "verdict.json").read_text())
    assert verdict["model"] == "shapes"
    assert verdict["ood"]["is_ood"] is True
    assert done.stdout.splitlines()[-1] == "circle known"
    test = json.loads((empty / "results" / "evaluation.json").read_text())["test"]
    assert (test["n"], test["accuracy"] > 0.9) == (90, True)
    assert "<title>shapes: model card</title>" in (empty / "card.html").read_text()
