"""What a network without its last layer is, and what its published weights expect of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Of published weights: (pixels / 255 - mean) / std a channel, of the image's middle."""

    mean: Channels
    std: Channels
    crop: float = 1.0
    """Share of the shorter side that the input shows, in (0, 1]."""


@dataclass(frozen=True)
class Backbone:
    """A network [N, 3, H, W] -> features [N, num_features], and the input size it was made for."""

    network: nn.Module
    num_features: int
    input_size: int
    preprocessing: Preprocessing | None = None
    """Of its published weights; None where it has none."""
    head_keys: tuple[str, ...] = ()
    """How the names of its own classifier's weights begin, in a file of weights."""
