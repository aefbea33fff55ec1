"""The promise on synthetic scores: alpha of in-distribution images are rejected, whatever score."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.false_rejections.__main__ import p_values, rejections
from isoserve.models.combination import linear_terms
from isoserve.training.onnx_model.fit_score import fit_scales
from isoserve.training.onnx_model.reference import numpy_combined


def views(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewed, dependent scores of n images of three unequal classes, and their classes."""
    rng = np.random.default_rng(seed)
    predicted = rng.choice(3, size=n, p=[0.2, 0.3, 0.5])
    hard = rng.gamma(2.0, 1.0, n) * (1 + predicted)
    noise = rng.gamma(1.0, 0.5, (n, 3))
    return -(hard[:, None] * np.array([0.1, 0.3, 2.0]) + noise), predicted


def test_both_scores_and_both_p_values_keep_the_promise() -> None:
    scores, predicted = views(10_000, seed=0)
    for row in rejections(scores, predicted, 3):
        if row["alpha"] == 0.05:
            assert row["mean"] == pytest.approx(0.05, abs=0.002)
            assert 0.5 < row["std"] / row["expected_std"] < 1.6


def test_ranks_of_the_calibration_images_among_themselves_would_break_it() -> None:
    """The trap that scales of their own images avoid: it must be seen by such a test."""
    rejected = []
    for seed in range(20):
        scores, _ = views(300, seed)
        known, judged = scores[:60], scores[60:]
        own = np.log((1 + (known[:, None] <= known[None]).sum(axis=0)) / 61).sum(axis=1)
        new = np.log((1 + (known[:, None] <= judged[None]).sum(axis=0)) / 61).sum(axis=1)
        rejected.append(np.mean(p_values(own, new) <= 0.1))
    assert np.mean(rejected) > 0.11


def test_the_combined_score_is_a_fixed_function_that_falls_with_every_view() -> None:
    scores, _ = views(500, seed=1)
    centres, spreads = fit_scales(scores)
    terms = linear_terms(centres, spreads)
    base = numpy_combined(scores, *terms)
    for view in range(3):
        lower = scores.copy()
        lower[:, view] -= spreads[view]
        assert (numpy_combined(lower, *terms) < base).all()
    one_far = scores.copy()
    one_far[:, 2] -= 50 * spreads[2]
    assert numpy_combined(one_far, *terms).max() < base.min()
