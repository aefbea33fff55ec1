"""Do torch, float64 NumPy and ONNX Runtime agree on an exported model? Checked at every export."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.special import log_softmax, softmax

from isoserve.models.card import OUTPUT_NAMES
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import HEADS, IsoMax2Head, IsoMaxHead, IsoMaxPlusHead, SoftMaxHead
from isoserve.models.served_model import ServedModel
from isoserve.training.onnx_graph import Outputs, run_graph

BARS = {"entropic_score": 1e-5, "distances": 1e-4, "probabilities": 1e-4}
"""Largest absolute difference allowed; seen on whole networks: 5e-7, 6e-6 and 8e-6."""

BATCH_SIZES = (1, 7, 64)


def check_parity(served: ServedModel, model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    """Compare all three on the same images at batch 1, 7 and 64.

    Raises:
        InputError: names the output, the batch size, the difference and the bar.
    """
    calibration = {
        initializer.name: numpy_helper.to_array(initializer)
        for initializer in model.graph.initializer
        if "calibration" in initializer.name or initializer.name == "temperature"
    }
    expected = {
        "torch": _torch_outputs(served, calibration, pixels),
        "float64 NumPy": numpy_outputs(served, calibration, pixels),
    }
    for batch_size in BATCH_SIZES:
        found = run_graph(model, pixels, batch_size)
        for reference, outputs in expected.items():
            for name, bar in BARS.items():
                difference = float(np.abs(found[name] - outputs[name]).max())
                _refuse_above(bar, difference, f"{name} at batch {batch_size}", reference)
            for name in ("p_value", "class_p_value"):
                slack = _near_ties(outputs["entropic_score"], calibration, name, outputs)
                excess = float((np.abs(found[name] - outputs[name]) - slack).max())
                _refuse_above(1e-6, excess, f"{name} at batch {batch_size}", reference)


def _refuse_above(bar: float, difference: float, what: str, reference: str) -> None:
    if not difference <= bar:  # catches NaN
        raise InputError(
            f"export refused: {what} differs by {difference:.2g} between ONNX Runtime and "
            f"{reference}; at most {bar:.0e} is allowed"
        )


def _near_ties(
    scores: NDArray[np.floating],
    calibration: dict[str, NDArray[np.float32]],
    name: str,
    outputs: Outputs,
) -> NDArray[np.float64]:
    """How far a p-value may move [N] because calibration scores lie within the score's bar."""
    if name == "p_value":
        rows = calibration["calibration_scores"]
        denominators = calibration["calibration_denominator"]
    else:
        predicted = outputs["probabilities"].argmax(axis=1)
        rows = calibration["class_calibration_scores"][predicted]
        denominators = calibration["class_calibration_denominators"][predicted]
    near = np.abs(rows - scores[:, np.newaxis]) <= 2 * BARS["entropic_score"]
    slack: NDArray[np.float64] = near.sum(axis=1) / denominators
    return slack


@torch.no_grad()
def _torch_outputs(
    served: ServedModel, calibration: dict[str, NDArray[np.float32]], pixels: NDArray[np.uint8]
) -> Outputs:
    for name, value in calibration.items():
        setattr(served, name, torch.from_numpy(value.copy()))
    values = served(torch.from_numpy(pixels))
    return {name: value.numpy() for name, value in zip(OUTPUT_NAMES, values, strict=True)}


@torch.no_grad()
def numpy_outputs(
    served: ServedModel, calibration: dict[str, NDArray[np.float32]], pixels: NDArray[np.uint8]
) -> Outputs:
    """The head, the scores and the p-values again in float64, on torch's features.

    Of a network whose head is not one of ours, the scores and the p-values, on torch's logits.
    """
    images = served.normalize(torch.from_numpy(pixels))
    network = served.classifier
    if isinstance(network, Classifier) and type(network.head) in HEADS.values():
        features = network.backbone(images)
        cold_logits, score_logits = _numpy_logits(network.head, features.numpy())
    else:
        cold_logits, score_logits = (logits.double().numpy() for logits in network(images))
    scores = (softmax(score_logits, axis=1) * log_softmax(score_logits, axis=1)).sum(axis=1)
    predicted = cold_logits.argmax(axis=1)
    column = scores[:, np.newaxis]
    at_most = (calibration["calibration_scores"] <= column).sum(axis=1)
    class_at_most = (calibration["class_calibration_scores"][predicted] <= column).sum(axis=1)
    class_denominators = calibration["class_calibration_denominators"][predicted]
    return {
        "probabilities": softmax(cold_logits / calibration["temperature"], axis=1),
        "entropic_score": scores,
        "p_value": (1 + at_most) / calibration["calibration_denominator"],
        "class_p_value": (1 + class_at_most) / class_denominators,
        "distances": -score_logits,
    }


def _numpy_logits(
    head: torch.nn.Module, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    f = features.astype(np.float64)
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    if isinstance(head, SoftMaxHead):
        z = f @ state["linear.weight"].T + state["linear.bias"]
        return z, z
    p = state["prototypes"]
    if isinstance(head, IsoMaxPlusHead):
        f = f / np.linalg.norm(f, axis=1, keepdims=True)
        p = p / np.linalg.norm(p, axis=1, keepdims=True)
    d = np.sqrt(((f[:, np.newaxis] - p) ** 2).sum(axis=-1))
    if isinstance(head, IsoMaxPlusHead):
        d = np.abs(state["distance_scale"]) * d
    if isinstance(head, IsoMax2Head):
        return -state["scales"] * d - state["tilts"], -d
    assert isinstance(head, (IsoMaxHead, IsoMaxPlusHead))
    return -head.entropic_scale * d, -d
