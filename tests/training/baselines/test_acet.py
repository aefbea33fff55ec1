"""ACET's noise against scipy's filter, its attack against a function whose maximum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from isoserve.training.baselines import acet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_low_pass_filter_is_scipys() -> None:
    images = torch.rand(4, 3, 16, 16, generator=generator())
    sigmas = torch.tensor([1.0, 1.3, 2.0, 2.5])
    found = acet.low_pass(images, sigmas).numpy()
    for image, sigma, smooth in zip(images.numpy(), sigmas.tolist(), found, strict=True):
        for channel, expected in zip(smooth, image, strict=True):
            reference = gaussian_filter(expected, sigma, mode="mirror", radius=10)
            assert channel == pytest.approx(reference, abs=1e-5)


def test_noise_fills_its_range_and_is_fixed_by_the_generator() -> None:
    pixels = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8)
    noise = acet.noise_images(pixels, generator())
    assert noise.shape == (9, 3, 16, 16)
    assert noise.amin(dim=(1, 2, 3)).tolist() == pytest.approx([0.0] * 9)
    assert noise.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 9)
    assert torch.equal(noise, acet.noise_images(pixels, generator()))
    assert not torch.equal(noise, acet.noise_images(pixels, generator(1)))


def test_half_of_the_noise_is_made_of_the_images_own_pixels() -> None:
    red = torch.zeros(6, 3, 12, 12, dtype=torch.uint8)
    red[:, 0] = torch.randint(0, 256, (6, 12, 12), dtype=torch.uint8)
    noise = acet.noise_images(red, generator())
    assert (noise[:3, 1:] == 0).all()  # permuted images: whole pixels move, so no green or blue
    assert (noise[3:, 1:].amax(dim=(1, 2, 3)) > 0.5).all()


def test_the_attack_finds_the_corner_of_a_linear_confidence() -> None:
    direction = torch.randn(3, 8, 8, generator=generator(1))
    noise = torch.rand(5, 3, 8, 8, generator=generator())
    found = acet.most_confident(lambda x: (x * direction).sum(dim=(1, 2, 3)), noise, steps=7)
    corner = (noise + acet.RADIUS * direction.sign()).clamp(0, 1)
    assert torch.allclose(found, corner, atol=1e-5)


def test_the_attack_stays_in_the_ball_and_raises_the_confidence(make_network) -> None:
    network = make_network("resnet9_narrow_32")

    def confidence(x: torch.Tensor) -> torch.Tensor:
        return acet.largest_log_probability(network.classifier((x - 0.5) / 0.25).cold_logits)

    noise = torch.rand(6, 3, 8, 8, generator=generator())
    found = acet.most_confident(confidence, noise, steps=10)
    assert (found - noise).abs().max() <= acet.RADIUS + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        assert confidence(found).mean() > confidence(noise).mean()


def test_the_penalty_is_the_log_of_the_largest_probability() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    expected = np.log(np.exp([2.0, 0.0]) / np.exp(logits.numpy()).sum(axis=1))
    assert acet.largest_log_probability(logits).numpy() == pytest.approx(expected)
