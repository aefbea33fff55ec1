"""Do torch, float64 NumPy and ONNX Runtime agree on an exported model? Checked at every export.

What comes out of the network (distances, boundary, density) has no bound: long features give long
distances, and float32 rounds in proportion. It is compared by its share of the largest. What
follows from these has a bound or a rank. It is computed once more in float64 from the *very*
distances and scores that were found, so that the network's rounding is not taken for a fault of
the graph, and no fault passes as such rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.special import softmax

from isoserve.models.combination import VIEWS
from isoserve.models.errors import InputError
from isoserve.models.heads import Head
from isoserve.models.served_model import FEATURES, PlainModel, ServedModel
from isoserve.training.onnx_graph import Outputs, constants_of, run_graph, with_output
from isoserve.training.onnx_model.reference import (
    Fitted,
    Floats,
    References,
    boundary_per_distance,
    logits_of_distances,
    network_outputs,
    numpy_combined,
    numpy_entropic,
    outputs_of_features,
    p_values,
)

BARS = {
    "distances": 3e-5,
    "boundary_score": 1e-3,
    "density_score": 1e-3,
    "probabilities": 1e-4,
    "entropic_score": 1e-5,
    "ood_score": 1e-4,
    "p_value": 1e-6,
    "entropic_p_value": 1e-6,
    "class_p_value": 1e-6,
}
"""Largest difference allowed. On whole networks distances of 4 differed by 6e-6 and of 712 by 2e-3,
probabilities by 8e-6 and entropic scores by 5e-7."""

UNBOUNDED = ("distances", "boundary_score", "density_score")
"""The difference counts as a share of the largest value, where that is above 1. Distances to a
boundary are divided by those between prototypes, which are small in a head just begun."""

ROUNDING = 2.0**-22
"""Four roundings of a float32: what a product and a sum may lose of the numbers in them."""

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
    head = None if isinstance(served, PlainModel) else served.classifier.head
    expected = {
        "torch": _torch_outputs(served, fitted, pixels),
        "float64 NumPy": network_outputs(served, fitted, pixels),
    }
    names = expected["float64 NumPy"].keys()
    for batch_size in BATCH_SIZES:
        found = _in_float64(run_graph(model, pixels, batch_size))
        for reference, outputs in expected.items():
            compared = _Comparison(f"at batch {batch_size}", reference)
            for name in names:
                slack = _slack(name, head, outputs["distances"])
                compared.check(name, found[name], outputs[name], slack)
        _check_what_follows(found, head, fitted, compared)


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
    found = _in_float64(run_graph(with_output(model, FEATURES), pixels))
    compared = _Comparison("at batch 64", "float64 NumPy")
    expected = outputs_of_features(head, found[FEATURES], fitted)
    for name, values in expected.items():
        slack = _slack(name, head, expected["distances"])
        compared.check(name, found[name], values, slack)
    _check_what_follows(found, head, fitted, compared)


def bar_of(name: str, values: NDArray[np.floating]) -> float:
    """By how much an output may differ from these values."""
    largest = max(1.0, float(np.abs(values).max())) if name in UNBOUNDED else 1.0
    return BARS[name] * largest


@dataclass(frozen=True)
class _Comparison:
    where: str
    reference: str

    def check(
        self, name: str, found: Floats, expected: Floats, slack: Floats | float = 0.0
    ) -> None:
        """Refuse an output of ONNX Runtime that is not the reference's.

        Args:
            slack: added to the bar, in a shape that fits.
        """
        bar = np.broadcast_to(bar_of(name, expected) + slack, found.shape)
        apart = np.abs(found - expected)
        wrong = ~(apart <= bar)  # NaN too
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise InputError(
                f"export refused: {name} {self.where} differs by {apart[at]:.2g} between ONNX "
                f"Runtime and {self.reference}; at most {bar[at]:.2g} is allowed"
            )


def _check_what_follows(
    found: References, head: Head | None, fitted: Fitted, compared: _Comparison
) -> None:
    """Compare what is computed from distances and views with float64 NumPy on the same.

    Args:
        found: ONNX Runtime's.
        head: None where the probabilities do not follow from the distances.
    """
    check = compared.check
    check("entropic_score", found["entropic_score"], numpy_entropic(found["distances"]))
    if head is not None:
        logits = logits_of_distances(head, found["distances"]) / fitted["temperature"]
        expected = softmax(logits, axis=1)
        slack = 2 * expected * (1 - expected) * _rounding(logits)
        check("probabilities", found["probabilities"], expected, slack)
    scores, denominator = found["entropic_score"], fitted["calibration_denominator"]
    if "ood_score" in found:
        rows = fitted["entropic_calibration_scores"]
        check("entropic_p_value", found["entropic_p_value"], p_values(scores, rows, denominator))
        check("ood_score", found["ood_score"], *_numpy_ood_score(found, fitted))
        scores = found["ood_score"]
    expected = p_values(scores, fitted["calibration_scores"], denominator)
    check("p_value", found["p_value"], expected)
    check("class_p_value", found["class_p_value"], _class_p_values(found, scores, fitted))


def _slack(name: str, head: Head | None, distances: Floats) -> float:
    """What an output may differ beyond its bar since distances differ by theirs."""
    if name != "boundary_score" or head is None:
        return 0.0
    return BARS["distances"] * boundary_per_distance(head, distances)


def _numpy_ood_score(found: References, fitted: Fitted) -> tuple[Floats, Floats | float]:
    """The score that decides [N], and by how much float32 may miss it [N]."""
    if "view_factors" not in fitted:
        return found["entropic_score"], 0.0
    views = np.stack([found[f"{view}_score"] for view in VIEWS], axis=1)
    factors, offsets = fitted["view_factors"].astype(np.float64), fitted["view_offsets"]
    terms = np.hstack([views * factors, np.broadcast_to(offsets, views.shape)])
    return numpy_combined(views, factors, offsets), _rounding(terms)[:, 0]


def _class_p_values(found: References, scores: Floats, fitted: Fitted) -> Floats:
    """[N], among the images of the likeliest class; of several as likely, the nearest to the found.

    Which of two classes is predicted may hang on the last bit of a logit.
    """
    probabilities = found["probabilities"]
    likeliest = probabilities >= probabilities.max(axis=1, keepdims=True) - 1e-6
    of_class = np.stack(
        [
            p_values(scores, rows, denominator)
            for rows, denominator in zip(
                fitted["class_calibration_scores"],
                fitted["class_calibration_denominators"],
                strict=True,
            )
        ],
        axis=1,
    )
    apart = np.where(likeliest, np.abs(of_class - found["class_p_value"][:, np.newaxis]), np.inf)
    nearest: Floats = np.take_along_axis(of_class, apart.argmin(axis=1)[:, np.newaxis], axis=1)
    return nearest[:, 0]


def _rounding(numbers: Floats) -> Floats:
    """Of sums made of such numbers [N, K]: [N, 1]."""
    largest: Floats = ROUNDING * np.abs(numbers).max(axis=1, keepdims=True)
    return largest


def _in_float64(outputs: Outputs) -> References:
    return {name: values.astype(np.float64) for name, values in outputs.items()}


@torch.no_grad()
def _torch_outputs(
    served: ServedModel | PlainModel, fitted: Fitted, pixels: NDArray[np.uint8]
) -> References:
    for name, value in fitted.items():
        setattr(served, name, torch.from_numpy(value.copy()))
    values = served(torch.from_numpy(pixels))
    found = dict(zip(served.output_names, values, strict=True))
    return {name: value.double().numpy() for name, value in found.items()}
