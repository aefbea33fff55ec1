"""Views of an image's uncertainty beside the entropic score, and their combination.

For all of them higher = more in-distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WHOLE_COVARIANCE = 256
"""Up to so many features the density score looks at all their directions."""

DIRECTIONS_BESIDE_CLASSES = 8
"""Of more features: this many, those in which they vary most within a class, beside the directions
of the class means. What lies outside counts by its length: docs/results/density-directions.md."""

MOST_DIRECTIONS = 512
"""With many classes; a product with all directions of 1,280 features would cost a tenth of a small
network's time."""


class DensityForm(NamedTuple):
    """How the covariance of the density score is known."""

    directions: int
    """K, those in which it is known one by one."""
    has_rest: bool
    """Whether all others share one variance; else they are not looked at."""


def density_form(features: int, classes: int) -> DensityForm:
    """The form for a network of D features and C classes."""
    directions = min(DIRECTIONS_BESIDE_CLASSES + classes, MOST_DIRECTIONS)
    if features <= max(WHOLE_COVARIANCE, directions):
        return DensityForm(features, has_rest=False)
    return DensityForm(directions, has_rest=True)


def density_score(
    features: Tensor, whitening: Tensor, class_means: Tensor, density_offset: Tensor | None = None
) -> Tensor:
    """Minus the Mahalanobis distance of unit-length features to the nearest class.

    Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, on
    features divided by their length, with one covariance for all classes. Outside K directions
    that covariance may be a single variance (Tipping and Bishop, "Probabilistic principal component
    analysis", 1999): see :mod:`isoserve.training.onnx_model.feature_statistics`.

    Args:
        features: [N, D].
        whitening: [D, K], W.
        class_means: [C, K], m.
        density_offset: [1], b. The squared distance of u to class c is ||uW - m_c||^2 without and
            b - ||uW - m_c||^2 with it.

    Returns:
        [N], <= 0.
    """
    rows = features.unsqueeze(1)  # [N, 1, D], as the heads on distances make it too: one node
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1e-12)
    # Divided behind the product, whose input a runtime may round to bfloat16, as their length too.
    away = (rows @ whitening) / lengths - class_means  # [N, C, K]
    if density_offset is None:
        distances: Tensor = torch.linalg.vector_norm(away, dim=-1)  # [N, C]
        return -distances.amin(dim=1)
    largest = (away * away).sum(dim=-1).amax(dim=1)  # [N]
    nearest: Tensor = (density_offset - largest).clamp_min(0.0).sqrt()
    return -nearest


def combined_score(scores: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """One score of all views: see :mod:`isoserve.models.combination`.

    Args:
        scores: [N, V], in the order of :data:`isoserve.models.combination.VIEWS`.
        factors: [V], of :func:`isoserve.models.combination.linear_terms`; offsets likewise.

    Returns:
        [N].
    """
    combined: Tensor = -torch.logsumexp(scores * factors + offsets, dim=1)
    return combined
