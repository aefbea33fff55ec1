"""Scores fall into buckets that their own model's card laid out."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import TinyModel, reference, tiny_card

from isoserve.models.card import ModelCard
from isoserve.service.observability.score_histogram import STEPS, ScoreHistograms, score_edges

CARD = tiny_card()


def card_of(scores: list[float], threshold: float, classes: int = 10) -> ModelCard:
    """A card that was calibrated on these scores."""
    quantiles = np.quantile(scores, np.linspace(0, 1, 101)).tolist()
    made = {"score_quantiles": quantiles, "threshold": threshold, "class_counts": [1] * classes}
    return CARD.model_copy(
        update={
            "classes": [f"class {index}" for index in range(classes)],
            "calibration": CARD.calibration.model_copy(update=made),
        }
    )


def model(card: ModelCard = CARD, version: int = 1) -> Any:
    return SimpleNamespace(name="tiny", version=version, card=card)


def buckets(registry: CollectorRegistry, version: int = 1) -> dict[float, float]:
    """Upper bound -> scores up to it, as a scraper reads them."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    (family,) = (each for each in families if each.type == "histogram")
    assert family.name == "isoserve_entropic_score"
    return {
        float(sample.labels["le"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket") and sample.labels["version"] == str(version)
    }


def test_buckets_count_what_numpy_counts() -> None:
    registry = CollectorRegistry()
    images = TinyModel().calibration_images
    scores = reference(images)["entropic_score"]
    histogram = ScoreHistograms(registry).of(model())
    for score in scores.tolist():
        histogram.observe(score)
    found = buckets(registry)
    assert found.pop(math.inf) == len(images)
    assert found == {edge: float((scores <= edge).sum()) for edge in score_edges(CARD)}


@pytest.mark.parametrize(("low", "high"), [(-2.3, -2.1), (-2.3, -0.001), (-0.4, -0.3)])
def test_most_buckets_lie_where_the_models_scores_do(low: float, high: float) -> None:
    scores = np.linspace(low, high, 1001).tolist()
    threshold = scores[50]
    edges = np.array(score_edges(card_of(scores, threshold)))
    assert np.isclose(edges, threshold, rtol=1e-5).any()
    assert ((edges > low) & (edges < high)).sum() >= 0.9 * STEPS
    assert (np.diff(edges) > 0).all()
    assert edges[0] > -math.log(10)
    assert edges[-1] < 0


@pytest.mark.parametrize("only", [-1.5, 0.0, -math.log(10)])
def test_scores_all_alike_still_have_their_threshold(only: float) -> None:
    (edge,) = score_edges(card_of([only] * 10, only))
    assert edge == pytest.approx(only, rel=1e-5)


def test_versions_keep_their_own_buckets_in_one_metric() -> None:
    registry = CollectorRegistry()
    histograms = ScoreHistograms(registry)
    other = card_of([-0.2, -0.1], -0.19)
    histograms.of(model()).observe(-1.0)
    histograms.of(model(other, version=2)).observe(-0.15)
    for version, card in ((1, CARD), (2, other)):
        found = buckets(registry, version)
        assert tuple(found) == (*score_edges(card), math.inf)
        assert found[math.inf] == 1


def test_a_version_that_returns_goes_on_counting_and_another_file_begins_anew() -> None:
    registry = CollectorRegistry()
    histograms = ScoreHistograms(registry)
    histograms.of(model()).observe(-1.0)
    histograms.of(model()).observe(-1.0)
    assert buckets(registry)[math.inf] == 2
    other = card_of([-0.2, -0.1], -0.19)
    histograms.of(model(other)).observe(-0.15)
    found = buckets(registry)
    assert tuple(found) == (*score_edges(other), math.inf)
    assert found[math.inf] == 1
