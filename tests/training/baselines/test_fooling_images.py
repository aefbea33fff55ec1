"""Fooling images: evolved towards their class, the same twice, drawn as their formula says."""

from __future__ import annotations

import numpy as np
import torch

from isoserve.training.baselines.fooling import HIDDEN, draw_patterns, evolve


def test_evolution_raises_the_confidence_and_repeats_itself(make_network) -> None:
    network = make_network("resnet9_narrow_32")
    start = evolve(network, side=8, count=12, generations=0)
    later = evolve(network, side=8, count=12, generations=15)
    assert later.pixels.shape == (12, 8, 8, 3)
    assert later.pixels.dtype == np.uint8
    assert later.confidence > start.confidence
    assert np.array_equal(later.pixels, evolve(network, 8, 12, 15).pixels)
    assert len(np.unique(later.pixels.reshape(12, -1), axis=0)) == 12


def test_the_confidence_is_that_of_the_stored_pixels(make_network) -> None:
    network = make_network("resnet9_narrow_32")
    found = evolve(network, side=8, count=9, generations=5)
    with torch.no_grad():
        logits = network.score(lambda x: network.classifier(x).cold_logits, found.pixels)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.isclose(probabilities[np.arange(9), np.arange(9) % 3].mean(), found.confidence)


def test_a_pattern_is_its_function_of_the_coordinates() -> None:
    genes = torch.randn((2, 4 * HIDDEN + HIDDEN**2 + 3 * HIDDEN), generator=torch.manual_seed(0))
    images = draw_patterns(genes, side=5).numpy()
    g = genes[1].double().numpy()
    first, second, colour = np.split(g, [4 * HIDDEN, 4 * HIDDEN + HIDDEN**2])

    def bend(values: np.ndarray) -> np.ndarray:
        half = HIDDEN // 2
        return np.concatenate([np.sin(values[:half]), 2 * np.exp(-(values[half:] ** 2)) - 1])

    x, y = 0.5, -1.0  # column 3, row 0 of 5
    hidden = bend(3 * np.array([x, y, np.hypot(x, y), 1.0]) @ first.reshape(4, HIDDEN))
    hidden = bend(hidden @ second.reshape(HIDDEN, HIDDEN))
    expected = 1 / (1 + np.exp(-2 * hidden @ colour.reshape(HIDDEN, 3)))
    assert np.allclose(images[1, :, 0, 3], expected, atol=1e-5)
