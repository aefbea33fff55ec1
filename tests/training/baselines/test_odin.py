"""ODIN and FGSM against their formulas on a linear network, whose gradient is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from isoserve.training.baselines.adversarial import adversarial_pixels, fast_gradient_sign
from isoserve.training.baselines.frozen_network import TrainedNetwork
from isoserve.training.baselines.odin import ODIN, tune_odin
from isoserve.training.evaluation.metrics import ood_metrics


def parts(network: TrainedNetwork, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Normalised x [N, D], W [C, D], b [C] and std [D], in float64 and NumPy's hands."""
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
    x = ((pixels / 255.0 - mean) / std).transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    linear = network.classifier.head.linear
    weight, bias = linear.weight.double().numpy(), linear.bias.double().numpy()
    return x, weight, bias, np.repeat(std, pixels.shape[1] * pixels.shape[2])


@pytest.mark.parametrize(("temperature", "step"), [(1000.0, 0.0014), (1.0, 0.05), (10.0, 0.0)])
def test_odin_follows_its_formula(linear_network, pixels, temperature, step) -> None:
    x, weight, bias, std = parts(linear_network, pixels)
    z = (x @ weight.T + bias) / temperature
    # d CE(z, k) / dx = W'(p - e_k) / T
    onehot = np.eye(len(bias))[z.argmax(axis=1)]
    gradient = (softmax(z, axis=1) - onehot) @ weight / temperature
    moved = x - step * np.sign(np.where(np.abs(gradient) < 1e-12, 0, gradient)) / std
    expected = softmax((moved @ weight.T + bias) / temperature, axis=1).max(axis=1)
    detector = ODIN(temperature, step)
    scores = linear_network.score(lambda images: detector.score(linear_network, images), pixels)
    # W holds whole numbers, so a gradient that is zero in float64 may be +-1e-9 in float32.
    assert scores == pytest.approx(expected, abs=2e-6 if temperature > 1 else 2e-3)


def test_the_step_moves_towards_the_predicted_class(linear_network, pixels) -> None:
    plain = linear_network.score(lambda x: ODIN(1.0, 0.0).score(linear_network, x), pixels)
    moved = linear_network.score(lambda x: ODIN(1.0, 0.01).score(linear_network, x), pixels)
    assert (moved >= plain).all()
    assert (moved > plain).any()


def test_scores_differ_at_a_temperature_of_1000(linear_network, pixels) -> None:
    scores = linear_network.score(lambda x: ODIN().score(linear_network, x), pixels)
    assert len(np.unique(scores)) == len(pixels)


def test_a_gradient_sign_image_is_one_step_up_the_loss(linear_network, pixels) -> None:
    x, weight, bias, std = parts(linear_network, pixels)
    labels = np.arange(len(pixels)) % 3
    p = softmax(x @ weight.T + bias, axis=1)
    gradient = (p - np.eye(3)[labels]) @ weight
    sure = np.abs(gradient) > 1e-6
    mean = np.repeat([0.4, 0.5, 0.6], len(std) // 3)
    expected = np.clip(x + 0.05 * np.sign(gradient) / std, -mean / std, (1 - mean) / std)
    (images,) = linear_network.batches(pixels)
    found = fast_gradient_sign(linear_network, images, torch.from_numpy(labels))
    assert found.flatten(1).numpy()[sure] == pytest.approx(expected[sure], abs=1e-5)
    stored = adversarial_pixels(linear_network, pixels, labels).transpose(0, 3, 1, 2)
    in_pixels = 255 * (expected * std + mean)
    assert np.abs(stored.reshape(len(pixels), -1) - in_pixels)[sure].max() <= 0.5 + 1e-3


def test_adversarial_images_lower_the_accuracy(linear_network, pixels) -> None:
    x, weight, bias, _ = parts(linear_network, pixels)
    labels = (x @ weight.T + bias).argmax(axis=1)
    moved, *_ = parts(linear_network, adversarial_pixels(linear_network, pixels, labels))
    assert np.mean((moved @ weight.T + bias).argmax(axis=1) == labels) < 0.5


def test_tuning_takes_the_best_of_its_candidates(linear_network, pixels) -> None:
    x, weight, bias, _ = parts(linear_network, pixels)
    labels = (x @ weight.T + bias).argmax(axis=1)
    hostile = adversarial_pixels(linear_network, pixels, labels)
    chosen = tune_odin(linear_network, pixels, hostile, (1.0, 1000.0), (0.0, 0.01))

    def quality(detector: ODIN) -> tuple[float, float]:
        scores = [
            linear_network.score(lambda x: detector.score(linear_network, x), images)
            for images in (pixels, hostile)
        ]
        found = ood_metrics(*scores)
        return found.tnr_at_tpr95, found.auroc

    best = max(quality(ODIN(t, s)) for t in (1.0, 1000.0) for s in (0.0, 0.01))
    assert quality(chosen) == best


def test_weights_collect_no_gradient(make_network, pixels) -> None:
    network = make_network("resnet9_narrow_32", "isomax2")
    network.score(lambda x: ODIN(1.0, 0.01).score(network, x), pixels)
    assert all(parameter.grad is None for parameter in network.classifier.parameters())
