"""How well a score tells in- from out-of-distribution images, and how good the class is.

Throughout: higher score = more in-distribution, in-distribution is the positive class, and every
figure is a share in [0, 1]. pytorch-ood and OpenOOD take the opposite signs. Lee et al.'s
conventions (2018), which the IsoMax papers follow: ties count against the detector, so a constant
score has AUROC 0, where scikit-learn says 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

ECE_BINS = 15
"""Equal-width bins of confidence; what Guo et al. (2017) and the model card use."""


@dataclass(frozen=True)
class OODMetrics:
    """Three views of one pair of score samples; shares in [0, 1], higher is better."""

    tnr_at_tpr95: float
    auroc: float
    dtacc: float


def ood_metrics(in_scores: ArrayLike, out_scores: ArrayLike) -> OODMetrics:
    """TNR@TPR95, AUROC and DTACC of in-distribution [N] against out-distribution scores [M].

    Raises:
        ValueError: an empty sample, one that is not one-dimensional, or NaN or infinite scores.
    """
    return OODMetrics(
        tnr_at_tpr95=tnr_at_tpr95(in_scores, out_scores),
        auroc=auroc(in_scores, out_scores),
        dtacc=dtacc(in_scores, out_scores),
    )


def auroc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """P(in-distribution score > out-distribution score); equal scores count as lost.

    Raises:
        ValueError: as :func:`ood_metrics`.
    """
    inside, outside = _sorted(in_scores, "in"), _sorted(out_scores, "out")
    won = np.searchsorted(outside, inside, side="left").sum(dtype=np.int64)
    return float(won / (inside.size * outside.size))


def tnr_at_tpr95(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Share of out-distribution scores strictly below the in-distribution scores' 5 % quantile.

    The quantile is a score that occurs (``method="lower"``), so that at least 95 % of the
    in-distribution sample stands at or above it.

    Raises:
        ValueError: as :func:`ood_metrics`.
    """
    inside, outside = _sorted(in_scores, "in"), _sorted(out_scores, "out")
    threshold = np.quantile(inside, 0.05, method="lower")
    return float(np.searchsorted(outside, threshold, side="left") / outside.size)


def fpr_at_95(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Share of in-distribution images rejected where at least 95 % of the others are; lower is
    better.

    As OpenOOD v1.5 has it, where the out-distribution is the positive class: not one minus
    :func:`tnr_at_tpr95`, which keeps 95 % of the in-distribution. The threshold is a score that
    occurs, and equal scores are rejected.

    Raises:
        ValueError: as :func:`ood_metrics`.
    """
    inside, outside = _sorted(in_scores, "in"), _sorted(out_scores, "out")
    threshold = np.quantile(outside, 0.95, method="inverted_cdf")
    return float(np.searchsorted(inside, threshold, side="right") / inside.size)


def dtacc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """Best detection accuracy over all thresholds, both sides weighing the same: max (TPR+TNR)/2.

    Never below 0.5: a threshold under all scores accepts everything.

    Raises:
        ValueError: as :func:`ood_metrics`.
    """
    inside, outside = _sorted(in_scores, "in"), _sorted(out_scores, "out")
    # Accepting scores >= t, the best t is an in-distribution score or above them all.
    tpr = 1.0 - np.searchsorted(inside, inside, side="left") / inside.size
    tnr = np.searchsorted(outside, inside, side="left") / outside.size
    return float(max((tpr + tnr).max(), 1.0) / 2.0)


def accuracy(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Share of rows of [N, C] whose largest entry stands at the target; targets int [N].

    Raises:
        ValueError: shapes that do not fit, no rows, or NaN or infinite entries.
    """
    rows, labels = _rows(probabilities, targets)
    return float((rows.argmax(axis=1) == labels).mean())


def expected_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, bins: int = ECE_BINS
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (b/n, (b+1)/n].

    Confidence is the largest probability of a row of [N, C]; each bin weighs as many images as it
    holds (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Raises:
        ValueError: as :func:`accuracy`.
    """
    rows, labels = _rows(probabilities, targets)
    confidence = rows.max(axis=1)
    correct = rows.argmax(axis=1) == labels
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of = np.searchsorted(inner_edges, confidence, side="left")
    # Per bin: n * |accuracy - mean confidence| = |sum of correct - sum of confidence|.
    gaps = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / labels.size)


def negative_log_likelihood(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean -log of the target's probability, in nats.

    A probability of zero counts as float32's smallest normal number (87.3 nats), so that one
    underflow does not make the mean infinite.

    Raises:
        ValueError: as :func:`accuracy`.
    """
    rows, labels = _rows(probabilities, targets)
    of_target = rows[np.arange(labels.size), labels]
    return float(-np.log(np.maximum(of_target, np.finfo(np.float32).tiny)).mean())


def _sorted(scores: ArrayLike, side: str) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(
            f"{side}-distribution scores have shape {values.shape}; one score an image is wanted"
        )
    if not values.size:
        raise ValueError(f"no {side}-distribution scores: at least one is wanted")
    _refuse_not_finite(values, f"{side}-distribution scores")
    return np.sort(values)


def _rows(
    probabilities: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(targets)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(
            f"probabilities of shape {rows.shape} and targets of shape {labels.shape}; "
            "[N, C] and [N] are wanted"
        )
    if not rows.size:
        raise ValueError("no rows of probabilities: at least one is wanted")
    _refuse_not_finite(rows, "probabilities")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"targets are {labels.dtype}; whole numbers are wanted")
    if labels.min() < 0 or labels.max() >= rows.shape[1]:
        raise ValueError(
            f"targets from {labels.min()} to {labels.max()} for {rows.shape[1]} classes"
        )
    return rows, labels.astype(np.int64)


def _refuse_not_finite(values: NDArray[np.float64], what: str) -> None:
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise ValueError(f"{bad} of {values.size} {what} are NaN or infinite")
