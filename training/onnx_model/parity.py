"""Do torch, float64 NumPy and ONNX Runtime agree on an exported model? Checked at every export."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from isoserve.models.errors import InputError
from isoserve.models.heads import Head
from isoserve.models.served_model import FEATURES, PlainModel, ServedModel
from isoserve.training.onnx_graph import Outputs, constants_of, run_graph, with_output
from isoserve.training.onnx_model.reference import (
    Fitted,
    References,
    numpy_outputs,
    outputs_of_features,
)

BARS = {
    "entropic_score": 1e-5,
    "distances": 1e-4,
    "probabilities": 1e-4,
    "boundary_score": 1e-3,
    "density_score": 1e-3,
    "ood_score": 1e-3,
}
"""Largest difference allowed; on whole networks the first three were 5e-7, 6e-6 and 8e-6."""

UNBOUNDED = ("boundary_score", "density_score", "ood_score")
"""The difference counts as a share of the largest value, where that is above 1: distances to a
boundary are divided by those between prototypes, which are small in a head just begun."""

RANKED = {
    "p_value": "calibration",
    "class_p_value": "class_calibration",
    "entropic_p_value": "entropic_calibration",
}
"""P-value -> the first words of its initialisers' names."""

BATCH_SIZES = (1, 7, 64)


def check_parity(
    served: ServedModel | PlainModel, model: onnx.ModelProto, pixels: NDArray[np.uint8]
) -> None:
    """Compare all three on the same images at batch 1, 7 and 64.

    Raises:
        InputError: names the output, the batch size, the difference and the bar.
    """
    buffers = {name for name, _ in served.named_buffers()}
    fitted = {
        initializer.name: numpy_helper.to_array(initializer)
        for initializer in model.graph.initializer
        if initializer.name in buffers
    }
    expected = {
        "torch": _torch_outputs(served, fitted, pixels),
        "float64 NumPy": numpy_outputs(served, fitted, pixels),
    }
    for batch_size in BATCH_SIZES:
        found = run_graph(model, pixels, batch_size)
        for reference, outputs in expected.items():
            compare(found, outputs, fitted, f"at batch {batch_size}", reference)


def check_features(head: Head, model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    """Compare what follows the features with float64 NumPy, of a model of schema 2.

    Raises:
        InputError: as :func:`check_parity`.
    """
    fitted = {
        name: value.astype(np.float32)
        for name, value in constants_of(model).items()
        if value.dtype == np.float32
    }
    found = run_graph(with_output(model, FEATURES), pixels)
    outputs = outputs_of_features(head, found[FEATURES].astype(np.float64), fitted)
    compare(found, outputs, fitted, "at batch 64", "float64 NumPy")


def compare(
    found: Outputs, expected: References, fitted: Fitted, where: str, reference: str
) -> None:
    """Refuse ONNX Runtime's outputs where they are not the reference's.

    Raises:
        InputError: as :func:`check_parity`.
    """
    for name in BARS.keys() & expected.keys():
        apart = np.abs(found[name] - expected[name]) / _unit(name, expected[name])
        _refuse_above(BARS[name], float(apart.max()), f"{name} {where}", reference)
    for name in RANKED.keys() & expected.keys():
        slack = _near_ties(name, expected, fitted)
        excess = float((np.abs(found[name] - expected[name]) - slack).max())
        _refuse_above(1e-6, excess, f"{name} {where}", reference)


def _unit(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = max(1.0, float(np.abs(values).max())) if name in UNBOUNDED else 1.0
    return np.full_like(values, largest)


def _refuse_above(bar: float, difference: float, what: str, reference: str) -> None:
    if not difference <= bar:  # catches NaN
        raise InputError(
            f"export refused: {what} differs by {difference:.2g} between ONNX Runtime and "
            f"{reference}; at most {bar:.0e} is allowed"
        )


def _near_ties(name: str, outputs: References, fitted: Fitted) -> NDArray[np.float64]:
    """How far a p-value may move [N] because calibration scores lie within the score's bar."""
    score_name = "entropic_score"
    if name != "entropic_p_value" and "ood_score" in outputs:
        score_name = "ood_score"
    scores = outputs[score_name]
    rows = fitted[f"{RANKED[name]}_scores"]
    denominators = fitted["calibration_denominator"]
    if name == "class_p_value":
        predicted = outputs["probabilities"].argmax(axis=1)
        rows = rows[predicted]
        denominators = fitted["class_calibration_denominators"][predicted]
    bar = 2 * BARS[score_name] * _unit(score_name, scores)
    near = np.abs(rows - scores[:, np.newaxis]) <= bar.reshape(-1, 1)
    slack: NDArray[np.float64] = near.sum(axis=1) / denominators
    return slack


@torch.no_grad()
def _torch_outputs(
    served: ServedModel | PlainModel, fitted: Fitted, pixels: NDArray[np.uint8]
) -> References:
    for name, value in fitted.items():
        setattr(served, name, torch.from_numpy(value.copy()))
    values = served(torch.from_numpy(pixels))
    found = dict(zip(served.output_names, values, strict=True))
    return {name: value.double().numpy() for name, value in found.items() if name != FEATURES}
