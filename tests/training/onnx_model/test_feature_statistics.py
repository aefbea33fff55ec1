"""The statistics behind the density score: which directions they keep, and in which digits."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

from isoserve.models.views import (
    DIRECTIONS_BESIDE_CLASSES,
    MOST_DIRECTIONS,
    WHOLE_COVARIANCE,
    DensityForm,
    density_form,
    density_score,
)
from isoserve.training.onnx_model.feature_statistics import FeatureStatistics, fit_statistics

CLASSES = 4
WIDE = WHOLE_COVARIANCE + 88
KNOWN = DIRECTIONS_BESIDE_CLASSES + CLASSES


def _features(width: int, count: int = 900, least: float = 0.001) -> tuple[np.ndarray, np.ndarray]:
    """Features whose directions vary by very different amounts, about class means."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    means = 1 + random.random((CLASSES, width))
    turned, _ = np.linalg.qr(random.normal(size=(width, width)))
    spread = np.geomspace(0.3, least, width)
    return means[labels] + random.normal(size=(count, width)) * spread @ turned, labels


def _units_and_means(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit, np.stack([unit[labels == label].mean(axis=0) for label in range(CLASSES)])


def _score(features: np.ndarray, found: FeatureStatistics) -> np.ndarray:
    return density_score(torch.from_numpy(features).float(), **found.tensors()).numpy()


def _distances(unit: np.ndarray, means: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """To the nearest class, by solving with the whole covariance."""
    away = unit[:, None] - means
    solved = np.linalg.solve(covariance, away.reshape(-1, unit.shape[1]).T).T
    return np.sqrt((away * solved.reshape(away.shape)).sum(axis=2)).min(axis=1)


def test_few_features_keep_all_their_directions() -> None:
    features, labels = _features(24)
    found = fit_statistics(features, labels, CLASSES)
    assert found.whitening.shape == (24, 24)
    assert found.class_means.shape == (CLASSES, 24)
    assert found.density_offset is None
    unit, means = _units_and_means(features, labels)
    covariance, shrinkage = ledoit_wolf(unit - means[labels], assume_centered=True)
    assert found.shrinkage == shrinkage
    expected = -_distances(unit, means, covariance)
    assert np.allclose(_score(features, found), expected, rtol=1e-2)


def test_many_features_share_one_variance_outside_a_few_directions() -> None:
    features, labels = _features(WIDE, least=0.05)
    found = fit_statistics(features, labels, CLASSES)
    assert found.whitening.shape == (WIDE, KNOWN + 1)
    unit, means = _units_and_means(features, labels)
    covariance, _ = ledoit_wolf(unit - means[labels], assume_centered=True)
    # The same covariance written out: exact in the span of what is known, one variance elsewhere.
    vectors = np.linalg.eigh(covariance)[1][:, -DIRECTIONS_BESIDE_CLASSES:]
    known, _ = np.linalg.qr(np.concatenate((vectors, means.T), axis=1))
    inside = known.T @ covariance @ known
    rest = (np.trace(covariance) - np.trace(inside)) / (WIDE - KNOWN)
    variances, rotation = np.linalg.eigh(inside)
    inside = rotation * np.maximum(variances, 2 * rest) @ rotation.T
    written_out = known @ inside @ known.T + rest * (np.eye(WIDE) - known @ known.T)
    strange = np.random.default_rng(1).random((50, WIDE))
    for images in (features, strange):
        expected = -_distances(images / np.linalg.norm(images, axis=1)[:, None], means, written_out)
        assert np.allclose(_score(images, found), expected, rtol=1e-2)
    assert _score(strange, found).max() < _score(features, found).min()


@pytest.mark.parametrize("collapsed", [0.0, 1e-9])
def test_features_that_hardly_vary_give_finite_scores(collapsed: float) -> None:
    features, labels = _features(WIDE)
    means = np.stack([features[labels == label].mean(axis=0) for label in range(CLASSES)])
    features = means[labels] + collapsed * features
    found = fit_statistics(features, labels, CLASSES)
    assert np.isfinite(_score(features, found)).all()
    assert np.isfinite(_score(np.zeros((1, WIDE)), found)).all()


def test_a_class_without_images_and_a_repeated_one_add_no_direction() -> None:
    features, labels = _features(WIDE)
    found = fit_statistics(features, labels, CLASSES + 2)  # two classes take the mean of all
    assert found.whitening.shape == (WIDE, KNOWN + 1)
    assert found.class_means.shape == (CLASSES + 2, KNOWN + 1)


@pytest.mark.parametrize(
    ("features", "classes", "form"),
    [
        (64, 10, (64, False)),
        (WHOLE_COVARIANCE, 10, (WHOLE_COVARIANCE, False)),
        (1280, 10, (18, True)),
        (1280, 1000, (MOST_DIRECTIONS, True)),
        (MOST_DIRECTIONS, 1000, (MOST_DIRECTIONS, False)),
    ],
)
def test_the_form_by_features_and_classes(features: int, classes: int, form: DensityForm) -> None:
    assert density_form(features, classes) == form


def test_the_form_of_an_older_file_is_kept() -> None:
    features, labels = _features(WIDE)
    found = fit_statistics(features, labels, CLASSES, DensityForm(WIDE - 8, has_rest=False))
    everything = fit_statistics(features, labels, CLASSES, DensityForm(WIDE, has_rest=False))
    assert found.density_offset is None
    assert np.array_equal(found.whitening, everything.whitening[:, 8:])
    enlarged = np.linalg.norm(everything.whitening, axis=0)  # 1 / spread
    assert enlarged[:8].min() >= enlarged[8:].max() * 0.999


@pytest.mark.parametrize("width", [24, WIDE])
def test_16_bits_hold_the_whitening_exactly(width: int) -> None:
    features, labels = _features(width)
    found = fit_statistics(features, labels, CLASSES)
    assert np.array_equal(found.whitening.astype(np.float16).astype(np.float64), found.whitening)
