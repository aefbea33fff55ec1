"""Photographs made of gradients, and inputs that keep their size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import InputSpec

Pixels = NDArray[np.uint8]

SMALL = InputSpec(height=32, width=32)


def photo(width: int, height: int, channels: int = 3) -> Pixels:
    """Something with edges, gradients and noise: uint8 [H, W, C]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 3 * c)) + np.cos(y / (9 - c)) for c in range(channels)]
    edges = 40.0 * ((x // 13 + y // 17) % 2)
    values = 110 + 45 * np.stack(waves, -1) + edges[..., None]
    noisy = values + generator.normal(0, 6, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def at_own_size(width: int, height: int) -> InputSpec:
    return InputSpec(height=height, width=width)
