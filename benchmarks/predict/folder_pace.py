"""``isoserve predict`` on a folder against the bare network: images a second, and memory.

    python benchmarks/predict/folder_pace.py --model model.onnx --output pace.json

Each round times the bare network, then the whole command as a process of its own on a folder of as
many JPEG files. The bare network is ONNX Runtime on pixels already in memory, in the better of two
set-ups: one session on all cores, or a single-threaded one per core. The command's pace is the
one it reports (from its first file to its last answer); its wall time, start-up included, is kept
beside it, and processor time, start-up included too, which other load disturbs less. Memory is its
resident set, sampled over time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from isoserve.models.card import INPUT_NAME, SCHEMA_1_OUTPUTS
from isoserve.service.inference.model import Model, load_model, read_model_bytes

BATCH = 32
SAMPLE_SECONDS = 0.1
PACE = re.compile(r"(\d+) images: .*; (\d+) images/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    data = read_model_bytes(given.model, 2**30)
    model = load_model("bare", 1, data, cores, BATCH)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        pixels = make_folder(Path(folder), given.images, model)
        whole = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        for _ in range(given.rounds):
            one = pace_of_session(whole, pixels)
            cpu_before = time.process_time()
            many = pace_of_slots(model, pixels, cores)
            bare_cpu = time.process_time() - cpu_before
            entry = {"bare_one_session": one, "bare_session_a_core": many}
            entry |= run_command(given.model, Path(folder))
            entry["ratio"] = entry["pace"] / max(one, many)
            entry["cpu_ratio"] = bare_cpu / entry["cpu_seconds"]
            rounds.append(entry)
            print(json.dumps(entry))
    report = {
        "command": " ".join(["python", *sys.argv]),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": given.images,
        "image_bytes": "JPEG, quality 90, at the model's input size",
        "network": model.card.network,
        "sha256": model.sha256,
        "cores": cores,
        "processor": processor(),
        "load_average_at_end": os.getloadavg()[0],
        "onnxruntime": onnxruntime.__version__,
        "rounds": rounds,
        "cpu_ratio_median": statistics.median(entry["cpu_ratio"] for entry in rounds),
        "ratio_median": statistics.median(entry["ratio"] for entry in rounds),
        "memory_growth_mib_max": max(entry["memory_growth_mib"] for entry in rounds),
    }
    given.output.write_text(json.dumps(report, indent=2) + "\n")
    print(f"ratio {report['ratio_median']:.3f}, written to {given.output}")


def make_folder(folder: Path, count: int, model: Model) -> np.ndarray:
    """Write so many smooth images of the model's size; their pixels, uint8 [N, H, W, 3]."""
    spec = model.card.input
    rng = np.random.default_rng(0)
    pixels = np.empty((count, spec.height, spec.width, 3), dtype=np.uint8)
    for place in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        image = coarse.resize((spec.width, spec.height), Image.Resampling.BICUBIC)
        pixels[place] = np.asarray(image)
        image.save(folder / f"{place:06}.jpg", quality=90)
    return pixels


def pace_of_session(session: onnxruntime.InferenceSession, pixels: np.ndarray) -> float:
    """Images a second of one session on all cores."""
    began = time.perf_counter()
    for start in range(0, len(pixels), BATCH):
        session.run(SCHEMA_1_OUTPUTS, {INPUT_NAME: pixels[start : start + BATCH]})
    return len(pixels) / (time.perf_counter() - began)


def pace_of_slots(model: Model, pixels: np.ndarray, slots: int) -> float:
    """Images a second of one single-threaded session per core."""
    starts = iter(range(0, len(pixels), BATCH))

    def work(slot: int) -> None:
        for start in starts:
            model.run(slot, pixels[start : start + BATCH])

    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(work, range(slots)))
    return len(pixels) / (time.perf_counter() - began)


def run_command(model: Path, folder: Path) -> dict[str, float]:
    """Run ``isoserve predict`` on the folder; its pace, wall seconds and memory in MiB.

    ``memory_growth_mib``: the most it had after the first quarter of its time, over the most it
    had within it.
    """
    arguments = ["predict", str(folder), "--model", str(model), "--format", "jsonl"]
    began = time.perf_counter()
    cpu_before = children_cpu_seconds()
    process = subprocess.Popen(
        [sys.executable, "-m", "isoserve", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    samples = []
    while process.poll() is None:
        samples.append(resident_mib(process.pid))
        time.sleep(SAMPLE_SECONDS)
    wall = time.perf_counter() - began
    assert process.stderr is not None
    said = process.stderr.read()
    found = PACE.search(said)
    if process.returncode or not found:
        sys.exit(f"isoserve predict ended with {process.returncode}: {said}")
    quarter = len(samples) // 4
    return {
        "pace": float(found[2]),
        "wall_seconds": wall,
        "cpu_seconds": children_cpu_seconds() - cpu_before,
        "memory_mib": max(samples),
        "memory_growth_mib": max(samples[quarter:]) - max(samples[:quarter]),
    }


def children_cpu_seconds() -> float:
    """Processor time of the processes that were waited for, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_mib(pid: int) -> float:
    """The process's resident set; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def processor() -> str:
    """The processor's name."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
