"""The statistics behind the density score: which directions they keep, and in which digits."""

import numpy as np
import torch

from isoserve.models.views import MOST_DIRECTIONS, density_score
from isoserve.training.onnx_model.feature_statistics import fit_statistics

CLASSES = 4


def _features(width: int, count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Features whose directions vary by very different amounts, about class means."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    means = 1 + random.random((CLASSES, width))
    turned, _ = np.linalg.qr(random.normal(size=(width, width)))
    spread = np.geomspace(0.3, 0.001, width)
    return means[labels] + random.normal(size=(count, width)) * spread @ turned, labels


def test_few_features_keep_all_their_directions() -> None:
    features, labels = _features(24)
    found = fit_statistics(features, labels, CLASSES)
    assert found.whitening.shape == (24, 24)
    assert found.class_means.shape == (CLASSES, 24)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([unit[labels == label].mean(axis=0) for label in range(CLASSES)])
    rest = (unit - means[labels]) @ found.whitening
    assert abs((rest[:, -6:] ** 2).mean() - 1) < 0.1  # the others are shrunk to less
    tensors = (torch.from_numpy(x).float() for x in (features, found.whitening, found.class_means))
    expected = -np.linalg.norm((unit[:, None] - means[None]) @ found.whitening, axis=2).min(axis=1)
    assert np.allclose(density_score(*tensors).numpy(), expected, rtol=1e-3)


def test_many_features_keep_the_directions_in_which_they_vary_most() -> None:
    width = MOST_DIRECTIONS + 88
    features, labels = _features(width)
    found = fit_statistics(features, labels, CLASSES)
    everything = fit_statistics(features, labels, CLASSES, directions=width)
    assert found.whitening.shape == (width, MOST_DIRECTIONS)
    assert np.array_equal(found.whitening, everything.whitening[:, 88:])
    enlarged = np.linalg.norm(everything.whitening, axis=0)  # 1 / spread
    assert enlarged[:88].min() >= enlarged[88:].max() * 0.999


def test_16_bits_hold_the_whitening_exactly() -> None:
    features, labels = _features(24)
    found = fit_statistics(features, labels, CLASSES)
    assert np.array_equal(found.whitening.astype(np.float16).astype(np.float64), found.whitening)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    mean = unit[labels == 2].mean(axis=0)
    assert np.allclose(found.class_means[2], mean @ found.whitening)
