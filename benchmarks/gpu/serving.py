"""Serving on the accelerator: ONNX Runtime called in a loop, and the server around it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort

from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive
from benchmarks.serving.servers import ISOSERVE, Running, running
from isoserve.models.card import INPUT_NAME

DEVICES = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
BATCHES = (1, 8, 64, 256)
CONNECTIONS = (1, 8, 64, 256)


def missing(device: str) -> str:
    """Why this device cannot be measured here; empty where it can."""
    provider = DEVICES[device]
    there = ort.get_available_providers()
    if provider not in there:
        return (
            f"onnxruntime {ort.__version__} has no {provider} here, only {', '.join(there)}: "
            "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
        )
    return ""


def bare_loop(model: Path, device: str, seconds: float) -> dict[str, float]:
    """Images a second of each batch, pixels copied in and results copied out."""
    session = ort.InferenceSession(
        model.read_bytes(), providers=[DEVICES[device], "CPUExecutionProvider"]
    )
    _, height, width, channels = session.get_inputs()[0].shape
    found = {}
    for batch in BATCHES:
        pixels = np.zeros((batch, height, width, channels), np.uint8)
        session.run(None, {INPUT_NAME: pixels})  # chooses kernels
        count, began = 0, perf_counter()
        while perf_counter() < began + seconds:
            session.run(None, {INPUT_NAME: pixels})
            count += batch
        found[str(batch)] = round(count / (perf_counter() - began))
    return found


def server(model: Path, device: str, scratch: Path, seconds: int) -> dict[str, Any]:
    """Answers a second, latency and batches formed at each number of connections."""
    if shutil.which("wrk") is None:
        return {"not_run": "wrk is not installed: apt install wrk"}
    candidate = replace(ISOSERVE, flags=(*ISOSERVE.flags, "--device", device))
    image = write_image(scratch / "image.jpg")
    post = candidate.post(image.read_bytes())
    found: dict[str, Any] = {}
    with running(candidate, model, image) as there:
        for connections in CONNECTIONS:
            before = _batches(there)
            load = drive(there.port, post, connections, seconds)
            batches, images = (b - a for a, b in zip(before, _batches(there), strict=True))
            mean = {"mean_batch": round(images / batches, 1)} if batches else {}
            found[str(connections)] = load.as_dict() | mean
    return found


def _batches(server: Running) -> tuple[float, float]:
    """Batches run, and images in them, since the server's start."""
    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics").text
    count, total = (
        sum(
            float(value)
            for value in re.findall(rf"^isoserve_batch_size_{end}\S* (\S+)", text, re.M)
        )
        for end in ("count", "sum")
    )
    return count, total
