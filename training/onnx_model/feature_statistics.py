"""What the density score knows of the training images: class means and one covariance.

Of many features that covariance is known direction by direction only in those in which they vary
most within a class and in those of the class means; all others share one variance s^2. With
orthonormal v_k and variances l_k in the former, the squared distance of a unit-length u to the
class mean mu_c, which lies in their span with coordinates m_k, is

    sum_k (u v_k - m_k)^2 / l_k + (1 - sum_k (u v_k)^2) / s^2
        = b_c - sum_k (a_k u v_k + m_k / (a_k l_k))^2,    a_k^2 = 1 / s^2 - 1 / l_k,

one product and one subtraction an image, as if there were no others. One more column, of zeros in
what u is multiplied by, holds what b_c lacks to the largest, b: OpenVINO 2026.4 in bfloat16 gives
garbage where a sum over an axis is subtracted from a number a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from isoserve.models.errors import InputError
from isoserve.models.views import DIRECTIONS_BESIDE_CLASSES, DensityForm, density_form

_SMALLEST_EIGENVALUE = 1e-4
"""As a share of the mean one: features that are zero on all training images have none of their
own, and a float32 product with their inverse would be noise."""

_SMALLEST_REST = 1e-3
"""Of a unit-length vector's squared length, what at least is taken to lie outside the directions
that are known: a float32 difference knows a thousandth of it."""

_ROOM = 2.0
"""Least variance of a known direction, in those of the rest: its a_k must not vanish."""

Floats = NDArray[np.float64]
_Constants = tuple[Floats, Floats, Floats | None]


@dataclass(frozen=True)
class FeatureStatistics:
    """Of unit-length features; see :func:`isoserve.models.views.density_score`."""

    whitening: Floats
    """[D, K], or [D, K + 1] with a rest. Every value is one of float16's, so that a file may hold
    it in either width."""
    class_means: Floats
    """[C, K], or [C, K + 1]."""
    density_offset: Floats | None
    """[1]; none where no variance is shared."""
    shrinkage: float
    """Ledoit and Wolf's share of the identity in the covariance, in [0, 1]."""
    n: int

    def constants(self) -> dict[str, Floats]:
        """By the names of :func:`isoserve.models.views.density_score` and of the graph."""
        found = {"whitening": self.whitening, "class_means": self.class_means}
        if self.density_offset is not None:
            found["density_offset"] = self.density_offset
        return found

    def tensors(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The same in float32."""
        return {
            name: torch.from_numpy(value).float().to(device)
            for name, value in self.constants().items()
        }


def fit_statistics(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    num_classes: int,
    form: DensityForm | None = None,
) -> FeatureStatistics:
    """Class means and the tied covariance of features [N, D] divided by their lengths.

    The covariance is shrunk as much as the number of images asks for (Ledoit and Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004).

    Args:
        form: that of :func:`isoserve.models.views.density_form` if not given. Without a rest the K
            directions in which the features vary most are looked at, and no others.

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
    directions, has_rest = form or density_form(unit.shape[1], num_classes)
    fit = _with_rest if has_rest else _without_rest
    return FeatureStatistics(*fit(covariance, means, directions), float(shrinkage), len(labels))


def _without_rest(covariance: Floats, means: Floats, directions: int) -> _Constants:
    """W with W W^T the inverse covariance in those directions, and the means times W."""
    values, vectors = np.linalg.eigh(covariance)  # ascending
    values = np.maximum(values, max(_SMALLEST_EIGENVALUE * values.mean(), 1e-12))
    whitening = _as_half((vectors / np.sqrt(values))[:, -directions:])
    return whitening, means @ whitening, None


def _with_rest(covariance: Floats, means: Floats, directions: int) -> _Constants:
    """The v_k times a_k, -m_k / (a_k l_k) and b of the module's head, with its column more."""
    basis = _basis(np.linalg.eigh(covariance)[1], means, directions)
    variances, rotation = np.linalg.eigh(basis.T @ covariance @ basis)
    known = basis @ rotation
    outside = max(float(np.trace(covariance) - variances.sum()), _SMALLEST_REST)
    rest = outside / (len(covariance) - known.shape[1])
    variances = np.maximum(variances, _ROOM * rest)
    a = np.sqrt(1 / rest - 1 / variances)
    coordinates = means @ known
    shifted = -coordinates / (a * variances)
    offsets = 1 / rest + (coordinates**2 / variances + shifted**2).sum(axis=1)
    largest = offsets.max(keepdims=True)
    whitening = np.pad(_as_half(known * a), ((0, 0), (0, 1)))
    return whitening, np.column_stack((shifted, np.sqrt(largest - offsets))), largest


def _basis(vectors: Floats, means: Floats, directions: int) -> Floats:
    """Orthonormal [D, at most K]: of most variance, then what the class means add to these."""
    beside = directions - len(means)
    if beside <= 0:  # more classes than directions
        beside = min(DIRECTIONS_BESIDE_CLASSES, directions // 2)
    first = vectors[:, -beside:]
    beyond = means.T - first @ (first.T @ means.T)
    added, lengths, _ = np.linalg.svd(beyond, full_matrices=False)
    added = added[:, lengths > 1e-6][:, : directions - first.shape[1]]
    orthonormal: Floats = np.linalg.qr(np.concatenate((first, added), axis=1))[0]
    return orthonormal


def _as_half(values: Floats) -> Floats:
    largest = float(np.finfo(np.float16).max)
    return np.clip(values, -largest, largest).astype(np.float16).astype(np.float64)
