"""Counters as Prometheus would scrape them, for traffic whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.alerts.promql import Vector, labels

STEP_SECONDS = 30.0
P_VALUE_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CLASS_MIX = np.array([0.2, 0.16, 0.14, 0.12, 0.1, 0.09, 0.07, 0.06, 0.04, 0.02])
HARDNESS = np.array([0.4, 0.6, 2.2, 0.7, 1.5, 0.8, 1.8, 0.5, 1.0, 1.2])
"""How often a class is among the rejected in-distribution images, against its part of all."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Traffic:
    """One stream of images to one model.

    Args:
        images_per_second: mean rate; arrivals are Poisson.
        steps: evaluations, 30 s apart.
        foreign_share: part of the images that is out-of-distribution from ``foreign_from`` on.
        foreign_from: step at which they begin.
        recall: part of the foreign images with a p-value up to 0.05; their p-values are t ** a.
        frames_per_scene: images that share a scene, hence verdict, score and class.
        calibration_images: m; which images they were is drawn anew for each stream.
    """

    images_per_second: float
    steps: int
    foreign_share: float = 0.0
    foreign_from: int = 0
    recall: float = 0.6
    frames_per_scene: int = 1
    calibration_images: int = 5000
    alpha: float = 0.05

    def counters(self, rng: np.random.Generator) -> dict[str, Vector]:
        """The service's counters at each step, by metric."""
        scenes = self.images_per_second * STEP_SECONDS / self.frames_per_scene
        foreign = np.where(np.arange(self.steps) >= self.foreign_from, self.foreign_share, 0.0)
        bins = [
            self._arrivals(rng, scenes * (1.0 - foreign), self._in_distribution_shares(rng)),
            self._arrivals(rng, scenes * foreign, self._foreign_shares()),
        ]
        rejecting = int(np.searchsorted(P_VALUE_BOUNDS, self.alpha, side="right"))
        hard = CLASS_MIX * HARDNESS / (CLASS_MIX @ HARDNESS)
        # On the whole the accepted and the rejected must add up to the mix of classes.
        easy = (CLASS_MIX - self.alpha * hard) / (1.0 - self.alpha)
        uniform = np.full(len(CLASS_MIX), 1.0 / len(CLASS_MIX))
        accepted = np.zeros((self.steps, len(CLASS_MIX)), np.int64)
        rejected = np.zeros_like(accepted)
        for counts, of_accepted, of_rejected in zip(
            bins, (easy, uniform), (hard, uniform), strict=True
        ):
            accepted += rng.multinomial(counts[:, rejecting:].sum(axis=1), of_accepted)
            rejected += rng.multinomial(counts[:, :rejecting].sum(axis=1), of_rejected)
        return self._as_metrics(bins[0] + bins[1], accepted, rejected)

    def _arrivals(
        self, rng: np.random.Generator, scenes: NDArray[np.float64], shares: NDArray[np.float64]
    ) -> Counts:
        counts: Counts = rng.poisson(scenes[:, None] * shares[None, :]) * self.frames_per_scene
        return counts

    def _in_distribution_shares(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Share of p-values in each bucket given the calibration images, which are random too.

        P(p <= j / (m + 1)) is the j-th smallest of m uniform numbers, so the buckets' shares are
        Dirichlet distributed: Beta(k, m + 1 - k) for the rejection share.
        """
        ranks = np.floor(np.array(P_VALUE_BOUNDS) * (self.calibration_images + 1))
        return rng.dirichlet(np.diff(ranks, prepend=0.0))

    def _foreign_shares(self) -> NDArray[np.float64]:
        power = np.log(self.recall) / np.log(0.05)
        return np.diff(np.array(P_VALUE_BOUNDS) ** power, prepend=0.0)

    def _as_metrics(self, bins: Counts, accepted: Counts, rejected: Counts) -> dict[str, Vector]:
        of_model = {"job": "isoserve", "model": "cifar10", "version": "1"}

        def counter(increments: Counts) -> NDArray[np.float64]:
            return np.cumsum(increments).astype(np.float64)

        verdicts = {"in_distribution": accepted, "ood": rejected}
        cumulated = np.cumsum(bins, axis=1)
        bounds = [str(bound) for bound in P_VALUE_BOUNDS]
        return {
            "isoserve_images_total": {
                labels(**of_model, verdict=verdict): counter(counts.sum(axis=1))
                for verdict, counts in verdicts.items()
            },
            "isoserve_predictions_total": {
                labels(**of_model, verdict=verdict, label=f"class{index}"): counter(
                    counts[:, index]
                )
                for verdict, counts in verdicts.items()
                for index in range(len(CLASS_MIX))
            },
            "isoserve_p_value_bucket": {
                labels(**of_model, le=le): counter(cumulated[:, index])
                for le, index in zip([*bounds, "+Inf"], [*range(len(bounds)), -1], strict=True)
            },
            "isoserve_model_info": {labels(**of_model): np.ones(self.steps)},
            "isoserve_model_alpha": {labels(**of_model): np.full(self.steps, self.alpha)},
            "isoserve_model_calibration_images": {
                labels(**of_model): np.full(self.steps, float(self.calibration_images))
            },
        }
