"""What an int8 model costs in accuracy and AUROC, and what it brings in images a second."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from isoserve.models import openvino_engine
from isoserve.models.card import INPUT_NAME
from isoserve.models.openvino_engine import ComputePrecision, Session
from isoserve.training.data import LabelledImages
from isoserve.training.evaluation.metrics import accuracy, ood_metrics
from isoserve.training.onnx_graph import deciding_scores, run_graph
from isoserve.training.out_distributions import OutDistribution

BATCH_SIZES = (1, 32)
"""A lone request, and the most the server runs at once by default."""

ROUNDS = 7
IMAGES_A_ROUND = 64


@dataclass(frozen=True)
class Change:
    """A share in [0, 1], higher = better, of both models on the same images."""

    float32: float
    int8: float

    @property
    def loss(self) -> float:
        """Positive where int8 is worse."""
        return self.float32 - self.int8

    def as_dict(self) -> dict[str, float]:
        """Both shares by name."""
        return asdict(self)


@dataclass(frozen=True)
class QuantisationCost:
    """Losses, on ``n`` held-out images, and gain."""

    n: int
    accuracy: Change
    auroc: dict[str, Change]
    """Of the deciding score, by out-distribution."""
    speedup: dict[str, dict[int, float]]
    """Engine -> batch size -> int8 images a second over float32's, both by that engine in the
    precision it takes by itself, on one core of this machine."""

    @property
    def gains(self) -> bool:
        """Whether int8 is faster by any engine at any batch size."""
        return any(ratio > 1 for by_size in self.speedup.values() for ratio in by_size.values())


def measure_cost(
    float32: onnx.ModelProto,
    int8: onnx.ModelProto,
    images: LabelledImages,
    out_distributions: list[OutDistribution],
) -> QuantisationCost:
    """Run both models over the same images."""
    models = (float32.SerializeToString(), int8.SerializeToString())
    inside = [run_graph(model, images.pixels) for model in models]
    auroc = {
        out.name: Change(
            *(
                ood_metrics(
                    deciding_scores(held), deciding_scores(run_graph(model, out.pixels))
                ).auroc
                for model, held in zip(models, inside, strict=True)
            )
        )
        for out in out_distributions
    }
    return QuantisationCost(
        n=len(images),
        accuracy=Change(*(accuracy(held["probabilities"], images.labels) for held in inside)),
        auroc=auroc,
        speedup=measure_speedup(*models, images.pixels),
    )


def measure_speedup(
    float32: bytes, int8: bytes, pixels: NDArray[np.uint8]
) -> dict[str, dict[int, float]]:
    """Median over interleaved rounds of the ratio of processor time, by engine and batch size.

    Each round runs both models in turn on one thread, so that what else the machine does meets
    both; processor time does not count the time in which it did that.
    """
    pairs = {"ONNX Runtime": [_single_threaded(model) for model in (float32, int8)]}
    names = [output.name for output in pairs["ONNX Runtime"][0].get_outputs()]
    if openvino_engine.is_installed():
        pairs["OpenVINO"] = [_of_openvino(model) for model in (float32, int8)]
    return {
        engine: {size: _speedup(pair, names, _batch(pixels, size)) for size in BATCH_SIZES}
        for engine, pair in pairs.items()
    }


def _batch(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.resize(pixels, (size, *pixels.shape[1:])))


def _speedup(pair: list[Session], names: list[str], batch: NDArray[np.uint8]) -> float:
    ratios = []
    for _ in range(1 + ROUNDS):
        old, new = (_seconds(session, names, batch) for session in pair)
        ratios.append(old / new)
    return float(np.median(ratios[1:]))


def _single_threaded(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _of_openvino(model: bytes) -> Session:
    precision: ComputePrecision = "bfloat16" if openvino_engine.computes_bfloat16() else "float32"
    return openvino_engine.open_sessions(model, 1, precision)[0]


def _seconds(session: Session, names: list[str], batch: NDArray[np.uint8]) -> float:
    started = time.process_time()  # OpenVINO computes in a thread of its own
    for _ in range(max(IMAGES_A_ROUND // len(batch), 1)):
        session.run(names, {INPUT_NAME: batch})
    return time.process_time() - started
