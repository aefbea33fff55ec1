"""What each engine and precision brings in images a second, and whether its verdicts agree.

    python -m benchmarks.engines IMAGES --output benchmarks/results

The forms take turns at every batch size, on one core, so that a noisy machine slows them alike; the
ratios are those of medians. Each then judges the images of the folder: the share whose class and
verdict are ONNX Runtime's, and the share each rejects.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.report import circumstances
from isoserve.models import openvino_engine
from isoserve.service.inference.execution import DEFAULT_EXECUTION, Execution
from isoserve.service.inference.model import Model, load_model
from isoserve.training.data import load_class_folders

BATCH_SIZES = (1, 8, 32)
RUNS_OF_A_ROUND = 3
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository/cifar10/1/model.onnx"
FORMS = {
    "onnxruntime": DEFAULT_EXECUTION,
    "openvino float32": Execution(engine="openvino", precision="float32"),
    "openvino bfloat16": Execution(engine="openvino", precision="bfloat16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder CLASS/* of in-distribution images")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--limit", type=int, default=10_000, help="images that are judged")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    before = circumstances()
    data = given.model.read_bytes()
    models = {
        name: load_model("m", 1, data, 1, max(BATCH_SIZES), execution)
        for name, execution in FORMS.items()
        if openvino_engine.computes_bfloat16() or execution.precision != "bfloat16"
    }
    card = models["onnxruntime"].card
    pixels = load_class_folders(given.images, card.input).pixels
    chosen = np.random.default_rng(0).permutation(len(pixels))[: given.limit]
    report = {
        "command": f"python -m benchmarks.engines IMAGES --model {given.model.name} "
        f"--rounds {given.rounds} --limit {given.limit}",
        **before,
        "openvino": openvino_engine.package_version(),
        "model": card.name,
        "input": [card.input.height, card.input.width],
        "rounds": given.rounds,
        "speed": [_speed(models, pixels, size, given.rounds) for size in BATCH_SIZES],
        "agreement": _agreement(models, pixels[np.sort(chosen)], card.calibration.alpha),
    }
    path = given.output / f"engines_{card.name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({"speed": report["speed"], "agreement": report["agreement"]}, indent=1))


def _speed(
    models: dict[str, Model], pixels: NDArray[np.uint8], size: int, rounds: int
) -> dict[str, object]:
    batch = np.ascontiguousarray(pixels[np.arange(size) % len(pixels)])
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            begin = time.perf_counter()
            for _ in range(RUNS_OF_A_ROUND):
                model.run(0, batch)
            if turn:  # the first one warms up
                times[name].append((time.perf_counter() - begin) / RUNS_OF_A_ROUND)
    medians = {name: statistics.median(found) for name, found in times.items()}
    return {
        "batch_size": size,
        "milliseconds": {name: 1e3 * median for name, median in medians.items()},
        "ratio": {name: medians["onnxruntime"] / median for name, median in medians.items()},
    }


def _agreement(
    models: dict[str, Model], pixels: NDArray[np.uint8], alpha: float
) -> dict[str, dict[str, object]]:
    judged = {name: _judge(model, pixels) for name, model in models.items()}
    labels, p_values = judged["onnxruntime"]
    return {
        name: {
            "n": len(pixels),
            "at_load": asdict(models[name].form),
            "same_class": float((found == labels).mean()),
            "same_verdict": float(((p <= alpha) == (p_values <= alpha)).mean()),
            "p_value_difference": {
                "mean": float(np.abs(p - p_values).mean()),
                "most": float(np.abs(p - p_values).max()),
            },
            "rejected": float((p <= alpha).mean()),
        }
        for name, (found, p) in judged.items()
    }


def _judge(
    model: Model, pixels: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Class [N] and p-value [N] of each image."""
    outputs = [model.run(0, pixels[i : i + 32]) for i in range(0, len(pixels), 32)]
    return (
        np.concatenate([np.asarray(one.predicted) for one in outputs]),
        np.concatenate([one.p_value for one in outputs]),
    )


if __name__ == "__main__":
    main()
