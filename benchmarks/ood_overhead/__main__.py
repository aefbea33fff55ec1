"""What the verdict costs: the exported model against the same network with a SoftMax head.

    python -m benchmarks.ood_overhead --output benchmarks/results

Both are ONNX files run by ONNX Runtime on one thread, in turn within one process, and what counts
is that thread's processor time, so that the ratio holds on a noisy machine. The bare network gives
class probabilities and nothing else; the Isoserve model gives all its outputs. Network, classes,
calibration scores and the deciding score are those of a model's card, the embedded CIFAR-10 model
if none is given, or of the options. Weights do not matter to the time and are random.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isoserve.models.backbones import build_backbone
from isoserve.models.card import INPUT_NAME, SCHEMA_2_OUTPUTS, ScoreKind
from isoserve.models.classifier import build_classifier
from isoserve.models.served_model import FEATURES, PlainModel, ServedModel
from isoserve.training.onnx_graph import read_model, without_output
from isoserve.training.onnx_model.calibrate import set_calibration_rows
from isoserve.training.onnx_model.export import to_onnx

DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository/cifar10/1/model.onnx"
BATCH_SIZES = (1, 32)
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


class Bare(nn.Module):
    """uint8 images -> class probabilities by a SoftMax head, and nothing else."""

    def __init__(self, network: str, classes: int) -> None:
        super().__init__()
        classifier = build_classifier(network, "softmax", classes)
        self.plain = PlainModel(classifier, classes, MEAN, STD)

    def forward(self, images: Tensor) -> Tensor:
        return torch.softmax(self.plain.logits(images).cold_logits, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="whose card to take")
    parser.add_argument("--network", help="another one than the card's")
    parser.add_argument("--classes", type=int)
    parser.add_argument("--calibration", type=int, help="calibration scores")
    parser.add_argument("--score", choices=get_args(ScoreKind))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    card = read_model(options.model)[1]
    options.network = options.network or card.network
    options.classes = options.classes or len(card.classes)
    options.calibration = options.calibration or card.calibration.n
    options.score = options.score or card.score
    torch.manual_seed(0)
    size = build_backbone(options.network).input_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    bare = _session(_bare_model(options.network, options.classes, example))
    with_ood = _session(_ood_model(options, example))
    rows = []
    for batch_size in BATCH_SIZES:
        pixels = np.random.default_rng(0).integers(
            0, 256, (batch_size, size, size, 3), dtype=np.uint8
        )
        rows.append(_compare(bare, with_ood, pixels, options.rounds))
    report = {
        "command": f"python -m benchmarks.ood_overhead --network {options.network} "
        f"--classes {options.classes} --calibration {options.calibration} "
        f"--score {options.score} --rounds {options.rounds}",
        "network": options.network,
        "clock": "processor",
        "processor": _processor(),
        "onnxruntime": onnxruntime.__version__,
        "rows": rows,
    }
    (options.output / "ood_overhead.json").write_text(json.dumps(report, indent=2) + "\n")
    for row in rows:
        print(
            f"batch {row['batch_size']}: bare {row['bare_ms']:.3f} ms, "
            f"with OOD scores {row['with_ood_ms']:.3f} ms, ratio {row['ratio']:.4f} "
            f"(quartiles {row['ratio_quartiles'][0]:.4f} to {row['ratio_quartiles'][1]:.4f}, "
            f"n {row['rounds']})"
        )


def _bare_model(network: str, classes: int, example: Tensor) -> bytes:
    return to_onnx(Bare(network, classes).eval(), example, ("probabilities",)).SerializeToString()


def _ood_model(options: argparse.Namespace, example: Tensor) -> bytes:
    classifier = build_classifier(options.network, "isomax2", options.classes)
    served = ServedModel(classifier, MEAN, STD, options.score).eval()
    model = without_output(to_onnx(served, example, served.output_names), FEATURES)
    n, classes = options.calibration, options.classes
    scores = np.sort(np.random.default_rng(0).uniform(-np.log(classes), 0, n))
    set_calibration_rows(model, "calibration_scores", scores[np.newaxis])
    set_calibration_rows(model, "entropic_calibration_scores", scores[np.newaxis])
    by_class = np.tile(scores[: n // classes], (classes, 1))
    set_calibration_rows(model, "class_calibration_scores", by_class)
    return model.SerializeToString()


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _compare(
    bare: onnxruntime.InferenceSession,
    with_ood: onnxruntime.InferenceSession,
    pixels: NDArray[np.uint8],
    rounds: int,
) -> dict[str, object]:
    """Times the two in turn; the ratio is taken round by round."""

    def seconds(session: onnxruntime.InferenceSession, outputs: tuple[str, ...]) -> float:
        began = time.thread_time()
        session.run(outputs, {INPUT_NAME: pixels})
        return time.thread_time() - began

    times = []
    for turn in range(rounds + 5):
        pair = [(bare, ("probabilities",)), (with_ood, SCHEMA_2_OUTPUTS)]
        taken = {
            outputs: seconds(session, outputs) for session, outputs in pair[:: 1 - 2 * (turn % 2)]
        }
        times.append((taken[("probabilities",)], taken[SCHEMA_2_OUTPUTS]))
    times = times[5:]  # warm-up
    ratios = sorted(with_ood_time / bare_time for bare_time, with_ood_time in times)
    return {
        "batch_size": len(pixels),
        "rounds": rounds,
        "bare_ms": 1e3 * statistics.median(pair[0] for pair in times),
        "with_ood_ms": 1e3 * statistics.median(pair[1] for pair in times),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[rounds // 4], ratios[3 * rounds // 4]],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor()


if __name__ == "__main__":
    main()
