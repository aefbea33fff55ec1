"""Whether two ways to compute one network give the same verdicts.

Both judge the same probe images. How far the scores move there says how far p-values move on
in-distribution images: the calibration scores that the card describes are moved by as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import InputSpec, ModelCard

PROBES = 32
P_VALUE_BOUND = 0.02
"""The most a p-value may move on average, or two of its steps where calibration images are few."""
VERDICT_BOUND = 0.00125
"""The share of verdicts that may change, as far as probes tell, or a third of the standard error
that few calibration images leave to the rejected share. Of images of the model's classes 1.5 times
as many change (10,000 test images of the default CIFAR-10 model), so that 99.8 % stay."""
PROBABILITY_BOUND = 0.05
"""The most that an image's class probability may move, on average over the probes."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """How far the verdicts of two engines differ."""

    p_value: float
    probability: float
    p_value_bound: float
    verdicts: float
    """The share of calibration images that the moves take past the threshold."""
    verdict_bound: float

    @property
    def too_large(self) -> bool:
        """Whether the second engine may not stand in for the first; a NaN counts as too large."""
        return not (self.p_value <= self.p_value_bound and self.probability <= PROBABILITY_BOUND)

    @property
    def changes_verdicts(self) -> bool:
        """Whether more verdicts change than may; a NaN counts as too many."""
        return not self.verdicts <= self.verdict_bound

    def __str__(self) -> str:
        return (
            f"p-values differ by {self.p_value:.3g} (at most {self.p_value_bound:.3g}), "
            f"probabilities by {self.probability:.3g} (at most {PROBABILITY_BOUND:g}), "
            f"and {self.verdicts:.2%} of the verdicts (at most {self.verdict_bound:.2%})"
        )


def probe_images(spec: InputSpec) -> NDArray[np.uint8]:
    """Images made by code, uint8 [32, H, W, 3], the same at every call.

    Smooth colour fields of several scales, edges and grain: the mixture of frequencies of
    photographs, without being any.
    """
    from PIL import Image  # ONNX Runtime alone needs no probes, and loading it no Pillow

    generator = np.random.default_rng(20)
    images = np.empty((PROBES, spec.height, spec.width, 3), dtype=np.uint8)
    for index in range(PROBES):
        field = np.zeros((spec.height, spec.width, 3))
        for scale in (2, 3, 5, 9, 17):
            grid = generator.integers(0, 256, (scale, scale, 3), dtype=np.uint8)
            resample = Image.Resampling.NEAREST if index % 3 == 0 else Image.Resampling.BICUBIC
            enlarged = Image.fromarray(grid).resize((spec.width, spec.height), resample)
            field += np.asarray(enlarged, dtype=np.float64) / scale
        field -= field.mean()
        field *= generator.uniform(20, 80) / max(field.std(), 1e-9)
        field += generator.uniform(60, 200) + generator.normal(0, 4, field.shape)
        images[index] = field.clip(0, 255).astype(np.uint8)
    return images


def disagreement(
    expected: Mapping[str, Floats], found: Mapping[str, Floats], card: ModelCard
) -> Disagreement:
    """Between the outputs of the reference and of another engine on the same images."""
    score = "ood_score" if "ood_score" in expected else "entropic_score"
    moved = np.abs(found[score] - expected[score])[:, np.newaxis]
    quantiles = np.asarray(card.calibration.score_quantiles)
    shares = np.linspace(0, 1, len(quantiles))
    # [32, 101]: the share of calibration images that each move takes each quantile past.
    before, after = (np.interp(q, quantiles, shares) for q in (quantiles, quantiles + moved))
    alpha, n = card.calibration.alpha, card.calibration.n
    threshold = np.interp(alpha, shares, quantiles)
    past = np.interp(threshold + moved, quantiles, shares) - alpha
    # Not the class's own p-value: it jumps where the two most probable classes change places.
    seen = float(np.abs(found["p_value"] - expected["p_value"]).mean())
    return Disagreement(
        p_value=float(np.max([seen, (after - before).mean()])),
        probability=float(
            np.abs(found["probabilities"] - expected["probabilities"]).max(axis=1).mean()
        ),
        p_value_bound=max(P_VALUE_BOUND, 2 / (n + 1)),
        verdicts=float(past.mean()),
        verdict_bound=max(VERDICT_BOUND, math.sqrt(alpha * (1 - alpha) / n) / 3),
    )
