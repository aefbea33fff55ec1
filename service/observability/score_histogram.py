"""Entropic scores counted in nats: a histogram a version, its buckets laid by the version's card.

What a score means is its model's own affair: one network's lie within a fifth of a nat, another's
span five, and the threshold may be anywhere among them. No edges suit two models, and to add up
their buckets would mean nothing; p-values are for that, on one scale for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from isoserve.models.card import ModelCard
from isoserve.service.observability.batch_histogram import BatchHistogram

if TYPE_CHECKING:
    from isoserve.service.inference.model import Model

NAME = "isoserve_entropic_score"
TEXT = "Entropic scores in nats; higher = more in-distribution."
LABELS = ("model", "version")

STEPS = 20
"""Buckets across what 98 of 100 calibration scores span."""

Edges = tuple[float, ...]


class ScoreHistograms:
    """All versions' histograms, which Prometheus sees as one metric."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._of_version: dict[tuple[str, str], tuple[Edges, BatchHistogram]] = {}
        registry.register(self)

    def of(self, model: Model) -> BatchHistogram:
        """The version's histogram: the one it had, unless another file took its number."""
        key, edges = (model.name, str(model.version)), score_edges(model.card)
        had = self._of_version.get(key)
        if had is None or had[0] != edges:
            had = edges, BatchHistogram(NAME, TEXT, LABELS, buckets=edges, registry=None)
            self._of_version[key] = had
        return had[1].labels(*key)

    def remove(self, key: tuple[str, str]) -> None:
        """Forget the histogram of a version."""
        self._of_version.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """What a registry asks for at a scrape."""
        metric = Metric(NAME, TEXT, "histogram")
        for _, histogram in list(self._of_version.values()):
            metric.samples += [sample for each in histogram.collect() for sample in each.samples]
        yield metric


def score_edges(card: ModelCard) -> Edges:
    """Upper bounds of the buckets, ascending, in nats, of six digits.

    The threshold is one of them, so that what is rejected at the calibration's alpha fills whole
    buckets; the others lie in equal steps to both sides of it, as far as the scores that an
    entropy of so many classes can have: above -log(C), and below 0.
    """
    quantiles, threshold = card.calibration.score_quantiles, card.calibration.threshold
    step = (quantiles[99] - quantiles[1]) / STEPS
    steps = threshold + step * np.arange(-STEPS, STEPS + 1)
    possible = steps[(steps > -math.log(len(card.classes))) & (steps < 0)]
    return tuple(sorted({float(f"{edge:.6g}") for edge in (threshold, *possible)}))
