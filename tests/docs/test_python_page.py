"""docs/python.md as written: own network, own loop, export, load, serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from docs_pages import DOCS, ROOT, blocks
from running_server import StartServer

URL = "http://localhost:8000"


def python(program: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_page_leads_from_a_network_to_a_served_verdict(
    tmp_path: Path, start_server: StartServer
) -> None:
    *here, client = blocks(DOCS / "python.md", "python")
    card, prediction, ood, several = python("\n".join(here), tmp_path)
    accuracy, n = card.split()
    assert float(accuracy) > 0.99
    assert n == "500"
    label, probability = prediction.split()
    assert label in ("blue", "green", "red")
    assert float(probability) > 0.5
    assert ood.split()[0] == "False"
    assert several == "False True"
    server = start_server(tmp_path / "model_repository")
    assert client.count(URL) == 1
    assert python(client.replace(URL, server.url), tmp_path) == ["blue"]
