"""What a GPU brings, in at most eight minutes; where there is none, says so and ends with 2.

    python -m benchmarks.gpu --output benchmarks/results

Each part is written to gpu.json as soon as it is known, with the reason where it cannot run:
training works with PyTorch alone, serving needs onnxruntime-gpu (and wrk for the server).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.serving import DEVICES, bare_loop, missing, server
from benchmarks.serving.report import circumstances

MODELS = {
    "32 x 32": Path("model_repository/cifar10/1/model.onnx"),
    "224 x 224": Path("model_repository/clothes/1/model.onnx"),
}
LIMIT_SECONDS = 480


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement of serving")
    parser.add_argument("--limit-seconds", type=float, default=LIMIT_SECONDS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            f"no GPU here: torch {torch.__version__} sees no CUDA device. On a machine with one, "
            "install PyTorch's CUDA build and onnxruntime-gpu, and run this command again",
            file=sys.stderr,
        )
        return 2
    began = time.monotonic()
    options.output.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = circumstances() | {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in parts(Path(folder), options.seconds).items():
            left = options.limit_seconds - (time.monotonic() - began)
            result[name] = (
                _measured(measure) if left > 0 else {"not_run": "the time limit was reached"}
            )
            print(f"{name}: {json.dumps(result[name])}", flush=True)
            path = options.output / "gpu.json"
            path.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def parts(scratch: Path, seconds: int) -> dict[str, Callable[[], Any]]:
    """What is measured, the quickest and surest first."""
    from benchmarks.gpu.training import images_per_second, resumed, started_by_torchrun

    found: dict[str, Callable[[], Any]] = {
        "resume": lambda: resumed(scratch),
        "torchrun": lambda: started_by_torchrun(scratch),
    }
    for network, precision in (
        ("resnet34_32", "bf16-mixed"),
        ("resnet34_32", "32-true"),
        ("resnet9_32", "bf16-mixed"),
    ):
        found[f"training {network} {precision}"] = lambda n=network, p=precision: images_per_second(
            n, p, scratch
        )
    for side, model in MODELS.items():
        for device in DEVICES:
            reason = missing(device) or ("" if model.exists() else f"no {model}")
            if reason:
                found[f"{device} {side}"] = lambda r=reason: {"not_run": r}
                continue
            found[f"{device} {side}, bare loop"] = lambda m=model, d=device: bare_loop(
                m, d, seconds
            )
            found[f"{device} {side}, server"] = lambda m=model, d=device: server(
                m, d, scratch, seconds
            )
    return found


def _measured(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except Exception as error:  # one part's failure is a result; the others still run
        return {"failed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
