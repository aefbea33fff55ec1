"""Views of an image's uncertainty beside the entropic score, and their combination.

For all of them higher = more in-distribution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from isoserve.models.combination import SHARPNESS, VIEWS, WEIGHTS

_LOG_WEIGHTS = [math.log(WEIGHTS[view]) for view in VIEWS]


def density_score(features: Tensor, whitening: Tensor, class_means: Tensor) -> Tensor:
    """Minus the Mahalanobis distance of unit-length features to the nearest class.

    Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, on
    features divided by their length, with one covariance for all classes.

    Args:
        features: [N, D].
        whitening: [D, D]; W with W W^T the inverse covariance.
        class_means: [C, D], of the unit-length features, times W.

    Returns:
        [N], <= 0.
    """
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-12)
    whitened = (features / lengths) @ whitening  # [N, D]
    distances: Tensor = torch.linalg.vector_norm(
        whitened.unsqueeze(1) - class_means, dim=-1
    )  # [N, C]
    nearest: Tensor = distances.amin(dim=1)
    return -nearest


def combined_score(scores: Tensor, centres: Tensor, spreads: Tensor) -> Tensor:
    """One score of all views: see :mod:`isoserve.models.combination`.

    Args:
        scores: [N, V], in the order of :data:`isoserve.models.combination.VIEWS`.
        centres: [V], what each view gives for an ordinary in-distribution image.
        spreads: [V], > 0.

    Returns:
        [N].
    """
    # The spreads by themselves, or the exporter would fold them into another constant.
    against = (centres - scores) / spreads * SHARPNESS + scores.new_tensor(_LOG_WEIGHTS)
    combined: Tensor = -torch.logsumexp(against, dim=1)
    return combined
