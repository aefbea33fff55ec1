"""A tiny ``model.onnx`` that keeps the whole contract, made with onnx.helper alone (no torch).

The network is three features (the mean of each colour, in 0..1) and one prototype a class; it
exists so that the service's tests need no training. :func:`reference` is the same arithmetic in
NumPy, written apart from the graph, for tests that compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.contract_graph import Constants, contract_model, ood_nodes
from isoserve.models.card import INPUT_NAME, Calibration, DataSummary, InputSpec, ModelCard

SCALE = 10.0
CALIBRATION_IMAGES = 200
WORK_WIDTH = 384


@dataclass(frozen=True)
class TinyModel:
    """What distinguishes one tiny model from another.

    ``work`` adds that many multiplications of a 384 x 384 matrix to each run, for tests that need
    a slow model.
    """

    classes: tuple[str, ...] = ("red", "green", "blue")
    size: int = 8
    seed: int = 0
    name: str = "tiny"
    work: int = 0

    @property
    def prototypes(self) -> NDArray[np.float32]:
        """float32 [C, 3]: pure colours first, then random ones."""
        corners = np.eye(3, dtype=np.float32)
        rng = np.random.default_rng(self.seed)
        extra = rng.random((len(self.classes), 3), dtype=np.float32)
        return np.concatenate([corners, extra])[: len(self.classes)]

    @property
    def calibration_images(self) -> NDArray[np.uint8]:
        """uint8 [n, H, W, 3]: noise around each prototype's colour."""
        rng = np.random.default_rng(self.seed + 1)
        which = rng.integers(len(self.classes), size=CALIBRATION_IMAGES)
        colour = self.prototypes[which][:, None, None, :]
        shade = rng.uniform(0.2, 1.0, (CALIBRATION_IMAGES, 1, 1, 1))
        noise = rng.normal(0.0, 0.2, (CALIBRATION_IMAGES, self.size, self.size, 3))
        return (np.clip(colour * shade + noise, 0, 1) * 255).astype(np.uint8)


def write_tiny_model(path: Path, model: TinyModel = TinyModel()) -> Path:
    """Write the model to ``path`` by atomic rename; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_bytes(tiny_model(model).SerializeToString())
    return half.replace(path)


def tiny_model(model: TinyModel = TinyModel()) -> onnx.ModelProto:
    """The model as a protobuf, card included, for tests that first break it."""
    scores, predicted = _scores(model.calibration_images, model)
    of_class = np.eye(len(model.classes), dtype=np.float32)[predicted]
    constants: Constants = {
        "axes_image": np.array([1, 2], dtype=np.int64),
        "full": np.array(255.0, dtype=np.float32),
        "of_class": of_class.T.copy(),
    }
    node = helper.make_node
    nodes = [
        node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        node("Div", ["pixels", "full"], ["unit"]),
        node("ReduceMean", ["unit", "axes_image"], ["plain_features"], keepdims=0),
        *_work_nodes(model, constants),
        *ood_nodes(model.prototypes, SCALE, scores, constants),
        node("ArgMax", ["cold_logits"], ["predicted"], axis=1, keepdims=0),
        node("Gather", ["of_class", "predicted"], ["peers"], axis=0),
        node("Mul", ["below", "peers"], ["peers_below"]),
        node("ReduceSum", ["peers_below", "axis_1"], ["peer_count"], keepdims=0),
        node("ReduceSum", ["peers", "axis_1"], ["peer_n"], keepdims=0),
        node("Add", ["peer_count", "one"], ["peer_rank"]),
        node("Add", ["peer_n", "one"], ["peer_n_plus_one"]),
        node("Div", ["peer_rank", "peer_n_plus_one"], ["class_p_value"]),
    ]
    return contract_model(nodes, constants, tiny_card(model))


def tiny_card(model: TinyModel = TinyModel()) -> ModelCard:
    """A valid card for the model, its calibration numbers taken from its own scores."""
    scores, predicted = _scores(model.calibration_images, model)
    return ModelCard(
        name=model.name,
        classes=list(model.classes),
        input=InputSpec(height=model.size, width=model.size),
        network="tiny",
        parameters=model.prototypes.size,
        loss="isomax2",
        data=DataSummary(
            name="colours",
            digest="0" * 64,
            training_images=1,
            calibration_images=CALIBRATION_IMAGES,
        ),
        seed=model.seed,
        recipe={},
        versions={"onnx": onnx.__version__},
        calibration=Calibration(
            n=CALIBRATION_IMAGES,
            class_counts=np.bincount(predicted, minlength=len(model.classes)).tolist(),
            threshold=float(np.quantile(scores, 0.05, method="lower")),
            guaranteed_alpha=0.02,
            score_quantiles=np.quantile(scores, np.linspace(0, 1, 101)).tolist(),
            temperature=1.0,
        ),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def reference(images: NDArray[np.uint8], model: TinyModel = TinyModel()) -> dict[str, NDArray]:
    """The five outputs in float64 NumPy, straight from the formulas.

    Args:
        images: uint8 [N, H, W, 3].
    """
    distances = _distances(images, model)
    scores, predicted = _scores(images, model)
    calibration, calibration_classes = _scores(model.calibration_images, model)
    # The graph compares in float32: so does the count here, or ties would differ.
    below = calibration.astype(np.float32)[None] <= scores.astype(np.float32)[:, None]
    peers = calibration_classes[None] == predicted[:, None]
    return {
        "probabilities": _softmax(-SCALE * distances),
        "entropic_score": scores,
        "p_value": (1 + below.sum(1)) / (1 + below.shape[1]),
        "class_p_value": (1 + (below & peers).sum(1)) / (1 + peers.sum(1)),
        "distances": distances,
    }


def _distances(images: NDArray[np.uint8], model: TinyModel) -> NDArray[np.float64]:
    features = images.astype(np.float64).mean(axis=(1, 2)) / 255.0
    return np.linalg.norm(features[:, None] - model.prototypes[None].astype(np.float64), axis=2)


def _scores(
    images: NDArray[np.uint8], model: TinyModel
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    distances = _distances(images, model)
    share = _softmax(-distances)
    return (share * np.log(share)).sum(axis=1), distances.argmin(axis=1)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _work_nodes(model: TinyModel, constants: dict[str, NDArray]) -> list[onnx.NodeProto]:
    """Multiplications that depend on the input and add zero to the features."""
    if not model.work:
        return [helper.make_node("Identity", ["plain_features"], ["features"])]
    rng = np.random.default_rng(0)
    # Its powers neither grow nor fade: subnormal numbers would cost a hundred times more.
    matrix = rng.normal(0, WORK_WIDTH**-0.5, (WORK_WIDTH, WORK_WIDTH)).astype(np.float32)
    constants["work_matrix"] = matrix
    constants["zero"] = np.array(0.0, dtype=np.float32)
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["plain_features"], ["work_seed"], keepdims=0),
        node("Mul", ["work_matrix", "work_seed"], ["work_0"]),
    ]
    return [
        *nodes,
        *(
            node("MatMul", [f"work_{step}", "work_matrix"], [f"work_{step + 1}"])
            for step in range(model.work)
        ),
        node("ReduceMean", [f"work_{model.work}"], ["work_mean"], keepdims=0),
        node("Mul", ["work_mean", "zero"], ["work_zero"]),
        node("Add", ["plain_features", "work_zero"], ["features"]),
    ]
