"""The control scores against NumPy; pytorch-ood's sign is turned round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from isoserve.models.heads import SoftMaxHead
from isoserve.training.baselines.controls import NearestNeighbours, VirtualLogit, energy

RNG = np.random.default_rng(6)


def test_energy_is_log_sum_exp_and_grows_with_the_logits() -> None:
    logits = RNG.normal(size=(20, 5)) * 4
    found = energy(torch.from_numpy(logits)).numpy()
    assert found == pytest.approx(logsumexp(logits, axis=1))


def test_nearest_neighbours_measure_to_the_kth_on_the_unit_sphere() -> None:
    known, queries = RNG.normal(size=(200, 8)), RNG.normal(size=(30, 8))

    def unit(features: np.ndarray) -> np.ndarray:
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    distances = np.linalg.norm(unit(queries)[:, None] - unit(known), axis=2)
    expected = -np.sort(distances, axis=1)[:, 6]
    detector = NearestNeighbours(torch.from_numpy(known), k=7)
    found = detector.score(torch.from_numpy(queries)).numpy()
    assert found == pytest.approx(expected, abs=1e-5)


def test_fewer_features_than_neighbours_are_enough() -> None:
    known = torch.from_numpy(RNG.normal(size=(5, 4)))
    assert NearestNeighbours(known, k=50).score(known).shape == (5,)


def test_virtual_logit_follows_its_formula() -> None:
    torch.manual_seed(0)
    head = SoftMaxHead(6, 3).requires_grad_(False)
    features, queries = RNG.normal(size=(300, 6)) + 1, RNG.normal(size=(40, 6)) * 2
    weight, bias = head.linear.weight.double().numpy(), head.linear.bias.double().numpy()
    origin = -np.linalg.pinv(weight) @ bias
    centred = features - origin
    _, vectors = np.linalg.eigh(centred.T @ centred / len(features))
    residual_space = vectors[:, :3]
    alpha = (features @ weight.T + bias).max(axis=1).mean()
    alpha /= np.linalg.norm(centred @ residual_space, axis=1).mean()
    virtual = alpha * np.linalg.norm((queries - origin) @ residual_space, axis=1)
    expected = logsumexp(queries @ weight.T + bias, axis=1) - virtual
    labels = torch.zeros(300, dtype=torch.int64)
    found = VirtualLogit(head, torch.from_numpy(features), labels).score(torch.from_numpy(queries))
    assert found.numpy() == pytest.approx(expected, abs=1e-3)
