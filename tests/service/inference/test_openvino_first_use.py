"""OpenVINO in a process that has not used it yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from isoserve.models import openvino_engine

FIRST_RUNS = """
import os, sys, threading
import numpy as np
from isoserve.models.openvino_engine import open_sessions
from isoserve.models.card import INPUT_NAME

sessions = open_sessions(open(sys.argv[1], "rb").read(), 8, "float32")
start = threading.Barrier(len(sessions))

def run(session):
    start.wait()
    session.run(["p_value"], {INPUT_NAME: np.zeros((1, 8, 8, 3), dtype=np.uint8)})

threads = [threading.Thread(target=run, args=[session]) for session in sessions]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("answered")
os._exit(0)
"""


@pytest.mark.skipif(
    not openvino_engine.is_installed(), reason="the openvino extra is not installed"
)
def test_threads_that_run_for_the_first_time_at_once_are_all_answered(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.onnx")
    command = [sys.executable, "-c", FIRST_RUNS, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "answered\n", done.stderr
