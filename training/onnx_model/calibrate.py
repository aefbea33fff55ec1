"""Conformal calibration and class temperature, through the exported graph itself.

The scores that later images are ranked among come out of the very graph that will score them, so
quantised or otherwise rewritten graphs are calibrated by the same function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import beta

from isoserve.models.card import Calibration, HeldOut
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.evaluation.class_results import judge
from isoserve.training.hold_out import smallest_calibration
from isoserve.training.onnx_graph import has_output, run_graph

_PROBE_TEMPERATURE = 100.0


@dataclass(frozen=True)
class Calibrated:
    """A model with its calibration inside, and what to say of it in the card."""

    model: onnx.ModelProto
    calibration: Calibration
    held_out: HeldOut


def calibrate(
    model: onnx.ModelProto, images: LabelledImages, *, alpha: float, delta: float
) -> Calibrated:
    """Calibrate on in-distribution images the weights have never seen.

    Args:
        model: as :func:`isoserve.training.onnx_model.export.to_onnx` makes it; not changed.
        images: held-out images; all of them become calibration scores.
        alpha: share of in-distribution images that may be rejected.
        delta: chance that the realised share exceeds alpha at ``guaranteed_alpha``.

    Raises:
        InputError: too few images for alpha and delta, or scores that are not finite.
    """
    n, needed = len(images), smallest_calibration(alpha, delta)
    if n < needed:
        raise InputError(
            f"{n} images are too few to calibrate: at alpha {alpha} and delta {delta} "
            f"at least {needed} are needed"
        )
    calibrated = onnx.ModelProto()
    calibrated.CopyFrom(model)
    # At a high temperature no probability underflows, so their logarithms give the logits back.
    set_initializer(calibrated, "temperature", np.array([_PROBE_TEMPERATURE]))
    outputs = run_graph(calibrated, images.pixels)
    viewed = has_output(model, "ood_score")
    scores = outputs["ood_score" if viewed else "entropic_score"]
    if not np.isfinite(scores).all():
        raise InputError(
            f"{int((~np.isfinite(scores)).sum())} of {n} calibration scores are not finite: "
            "the network's weights are broken"
        )
    cold_logits = _PROBE_TEMPERATURE * np.log(outputs["probabilities"].astype(np.float64))
    temperature = fit_temperature(cold_logits, images.labels)
    predicted = cold_logits.argmax(axis=1)
    set_initializer(calibrated, "temperature", np.array([temperature]))
    counts = _set_scores(calibrated, scores, predicted, len(images.classes))
    if viewed:
        ranked = np.sort(outputs["entropic_score"])[np.newaxis]
        set_calibration_rows(calibrated, "entropic_calibration_scores", ranked)
    ordered = np.sort(scores)
    log_probabilities = log_softmax(cold_logits / temperature, axis=1)
    p_values = _p_values(scores, ordered)
    class_p_values = np.empty(n)
    for label in range(len(images.classes)):
        members = predicted == label
        if members.any():
            class_p_values[members] = _p_values(scores[members], np.sort(scores[members]))
    return Calibrated(
        model=calibrated,
        calibration=Calibration(
            n=n,
            class_counts=counts.tolist(),
            alpha=alpha,
            delta=delta,
            threshold=float(ordered[max(int(alpha * (n + 1)), 1) - 1]),
            guaranteed_alpha=guaranteed_rank(n, alpha, delta) / (n + 1),
            score_quantiles=np.quantile(ordered, np.linspace(0, 1, 101)).tolist(),
            temperature=temperature,
        ),
        held_out=judge(
            "calibration",
            {
                "probabilities": np.exp(log_probabilities).astype(np.float32),
                "p_value": p_values.astype(np.float32),
                "class_p_value": class_p_values.astype(np.float32),
            },
            images.labels,
            alpha,
        ),
    )


def _p_values(scores: NDArray[np.float32], ordered: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each score [n] among those of a calibration set in ascending order."""
    at_most = np.searchsorted(ordered, scores, side="right")
    return (1 + at_most) / (len(ordered) + 1)


def guaranteed_rank(n: int, alpha: float, delta: float) -> int:
    """Largest k such that, rejecting up to the k-th smallest score, P(share <= alpha) >= 1 - delta.

    The realised share is Beta(k, n + 1 - k) (Bates et al., 2023): 225 at n = 5,000 and
    alpha = delta = 0.05.
    """
    ranks = np.arange(1, n + 1)
    enough = np.asarray(beta.cdf(alpha, ranks, n + 1 - ranks)) >= 1 - delta
    if not enough.any():
        raise InputError(f"{n} calibration images allow no threshold at alpha {alpha}")
    return int(ranks[enough].max())


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Scalar T minimising the mean NLL of softmax(logits / T); logits [N, C] (Guo et al., 2017)."""
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(-log_softmax(scaled, axis=1)[rows, labels].mean())

    found = minimize_scalar(nll, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return float(np.exp(found.x))


def set_initializer(model: onnx.ModelProto, name: str, value: NDArray[np.floating]) -> None:
    """Replace an initialiser's values and shape, as float32."""
    for initializer in model.graph.initializer:
        if initializer.name == name:
            initializer.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
            return
    raise InputError(f"the model's graph has no {name!r}: it was not exported by this program")


def set_calibration_rows(model: onnx.ModelProto, name: str, scores: NDArray[np.floating]) -> None:
    """Put sorted calibration scores [rows, n] in, behind what stands for the image itself.

    Older graphs count the image by an addition, and have no such entry.
    """
    former = next((each for each in model.graph.initializer if each.name == name), None)
    counted = former is not None and bool(np.isneginf(numpy_helper.to_array(former)).any())
    itself = np.full((len(scores), 1 if counted else 0), -np.inf)
    set_initializer(model, name, np.concatenate((itself, scores), axis=1))


def _set_scores(
    model: onnx.ModelProto,
    scores: NDArray[np.float32],
    predicted: NDArray[np.int64],
    classes: int,
) -> NDArray[np.int64]:
    """Put both kinds of calibration scores in; returns how many images were predicted a class."""
    set_calibration_rows(model, "calibration_scores", np.sort(scores)[np.newaxis])
    set_initializer(model, "calibration_denominator", np.array([len(scores) + 1.0]))
    counts = np.bincount(predicted, minlength=classes)
    # A class nothing was predicted as has no distribution of its own: it takes the marginal one.
    members = [scores[predicted == c] if counts[c] else scores for c in range(classes)]
    longest = max(len(member) for member in members)
    padded = np.full((classes, longest), np.inf, dtype=np.float32)
    for row, member in zip(padded, members, strict=True):
        row[: len(member)] = np.sort(member)
    set_calibration_rows(model, "class_calibration_scores", padded)
    denominators = np.array([len(member) + 1.0 for member in members])
    set_initializer(model, "class_calibration_denominators", denominators)
    return counts
