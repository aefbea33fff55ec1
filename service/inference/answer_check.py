"""Is a model's answer to plain pixels one that its card describes? Checked when it is loaded."""

from __future__ import annotations

import numpy as np

from isoserve.models.card import ModelCard
from isoserve.models.combination import VIEWS, weighted_terms
from isoserve.service.inference.judgement import faults
from isoserve.service.inference.outputs import Outputs

BAR = 0.02
"""Largest difference of scores allowed, as a share of those above 1: engines of reduced precision
keep two digits. Another model's scales are off by more on random pixels."""

STEP = 0.01
"""Between two of the card's quantiles, as a share of the calibration images."""


def answer_fault(outputs: Outputs, card: ModelCard, n: int) -> str:
    """What is wrong with the outputs on ``n`` random images; empty as a rule."""
    classes = len(card.classes)
    shapes = {name: getattr(outputs, name).shape for name in card.output_names}
    for name, shape in shapes.items():
        expected = (n, classes) if name in ("probabilities", "distances") else (n,)
        if shape != expected:
            return f"'{name}' came out as {shape}, expected {expected}"
    if found := faults(outputs):
        return f"on random pixels {next(iter(found.values()))}"
    return _score_fault(outputs, card) or _rank_fault(outputs, card)


def _score_fault(outputs: Outputs, card: ModelCard) -> str:
    """Whether ``ood_score`` is what the card has it made of.

    The reasons that verdicts name come from the card's scales, and would be false where the graph
    holds others.
    """
    if outputs.density_score is None:  # schema 1 has one score
        return ""
    expected = outputs.entropic_score.astype(np.float64)
    made_of = "the entropic score"
    if card.combination is not None:
        made_of = "what the card's combination makes of the views"
        scores = np.stack([getattr(outputs, f"{view}_score") for view in VIEWS])
        scales = [getattr(card.combination, view) for view in VIEWS]
        centres = [scale.centre for scale in scales]
        terms = weighted_terms(scores, centres, [scale.spread for scale in scales])
        expected = -np.logaddexp.reduce(terms, axis=0)
    apart = np.abs(outputs.ood_score - expected) / np.maximum(1.0, np.abs(expected))
    worst = int(apart.argmax())
    if apart[worst] <= BAR:
        return ""
    return (
        f"'ood_score' is {outputs.ood_score[worst]:.4g}, but {made_of} is {expected[worst]:.4g}: "
        f"the graph holds other tables than its card, whose score is {card.score!r}"
    )


def _rank_fault(outputs: Outputs, card: ModelCard) -> str:
    """Whether ``p_value`` ranks the score among the calibration scores that the card tells of."""
    calibration = card.calibration
    scores, found = outputs.ood_score.astype(np.float64), outputs.p_value.astype(np.float64)
    quantiles = np.asarray(calibration.score_quantiles)
    slack = BAR * np.maximum(1.0, np.abs(scores))
    # The share of calibration scores at most as high, by the quantiles on both sides.
    low = STEP * (np.searchsorted(quantiles, scores - slack, side="right") - 1)
    high = STEP * np.searchsorted(quantiles, scores + slack, side="right")
    margin = STEP + 2 / (calibration.n + 1)
    outside = np.maximum(low - margin - found, found - high - margin)
    worst = int(outside.argmax())
    if outside[worst] <= 0:
        return ""
    return (
        f"'p_value' is {found[worst]:.3g} at a score of {scores[worst]:.4g}, where the card's "
        f"quantiles leave {max(low[worst], 0):.2g} to {min(high[worst], 1):.2g}: the graph holds "
        "another calibration table than its card, or none"
    )
