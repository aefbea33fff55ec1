"""Views of an image's uncertainty beside the entropic score, and their combination.

For all of them higher = more in-distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_DIRECTIONS = 512
"""Directions of the feature space that the density score looks at. Those beyond vary so little that
they say nothing more of an image, and cost time and memory by the square of the features: see
docs/results/density-directions.md."""


def density_directions(features: int) -> int:
    """How many of as many features' directions the density score looks at."""
    return min(features, MOST_DIRECTIONS)


def density_score(features: Tensor, whitening: Tensor, class_means: Tensor) -> Tensor:
    """Minus the Mahalanobis distance of unit-length features to the nearest class.

    Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, on
    features divided by their length, with one covariance for all classes.

    Args:
        features: [N, D].
        whitening: [D, K]; W with W W^T the inverse covariance in K directions.
        class_means: [C, K], of the unit-length features, times W.

    Returns:
        [N], <= 0.
    """
    rows = features.unsqueeze(1)  # [N, 1, D], as the heads on distances make it too: one node
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_min(1e-12)
    whitened = (rows / lengths) @ whitening  # [N, 1, K]
    distances: Tensor = torch.linalg.vector_norm(whitened - class_means, dim=-1)  # [N, C]
    nearest: Tensor = distances.amin(dim=1)
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
