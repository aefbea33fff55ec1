"""What the density score knows of the training images: class means and one covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from isoserve.models.errors import InputError
from isoserve.models.views import density_directions

_SMALLEST_EIGENVALUE = 1e-4
"""As a share of the mean one: features that are zero on all training images have none of their
own, and a float32 product with their inverse would be noise."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Of unit-length features; see :func:`isoserve.models.views.density_score`."""

    whitening: NDArray[np.float64]
    """[D, K]; W with W W^T the inverse covariance, in the K directions in which the features vary
    most. Every value is one of float16's, so that a file may hold it in either width."""
    class_means: NDArray[np.float64]
    """[C, K], times W."""
    shrinkage: float
    """Ledoit and Wolf's share of the identity in the covariance, in [0, 1]."""
    n: int


def fit_statistics(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    num_classes: int,
    directions: int | None = None,
) -> FeatureStatistics:
    """Class means and the tied covariance of features [N, D] divided by their lengths.

    The covariance is shrunk as much as the number of images asks for (Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004).

    Args:
        directions: K; that of :func:`isoserve.models.views.density_directions` if not given.

    Raises:
        InputError: features that are not finite.
    """
    if not np.isfinite(features).all():
        raise InputError("the network's features are not finite: its weights are broken")
    exact = features.astype(np.float64)
    unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    means = np.tile(unit.mean(axis=0), (num_classes, 1))  # of classes without an image
    for label in np.unique(labels):
        means[label] = unit[labels == label].mean(axis=0)
    covariance, shrinkage = ledoit_wolf(unit - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, max(_SMALLEST_EIGENVALUE * values.mean(), 1e-12))
    kept = density_directions(len(values)) if directions is None else directions
    whitening = (vectors / np.sqrt(values))[:, -kept:]  # eigenvalues ascend
    largest = float(np.finfo(np.float16).max)
    whitening = np.clip(whitening, -largest, largest).astype(np.float16).astype(np.float64)
    return FeatureStatistics(whitening, means @ whitening, float(shrinkage), len(labels))
