"""Batches of a training set: their order, their seeds, their pixels as the network takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.recipe import Recipe

RESIDENT_BYTES = 4 << 30
"""A set up to this size lies on the accelerator as a whole."""


class ResidentImages:
    """Pixels as a channels-last tensor, on the accelerator where they fit."""

    def __init__(self, fabric: Fabric, images: LabelledImages) -> None:
        self.device = fabric.device
        self.pixels = torch.from_numpy(images.pixels)
        self.labels = torch.from_numpy(images.labels)
        if self.device.type == "cuda" and images.pixels.nbytes < RESIDENT_BYTES:
            self.pixels, self.labels = self.pixels.to(self.device), self.labels.to(self.device)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W] in channels-last memory and int64 [B]."""
        chosen = torch.from_numpy(indices).to(self.pixels.device)
        pixels = self.pixels[chosen].to(self.device).permute(0, 3, 1, 2)
        return pixels, self.labels[chosen].to(self.device)


def epoch_batches(count: int, recipe: Recipe, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Indices of each batch of an epoch, in an order fixed by seed and epoch."""
    # A last batch of one image would break batch normalisation, so the rest is dropped.
    order = np.random.default_rng([recipe.seed, epoch]).permutation(count)
    size = min(recipe.batch_size, count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def mixed_seed(*numbers: int) -> int:
    """One seed out of several numbers, such as run, epoch and step."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normalise(pixels: Tensor, checkpoint: Checkpoint) -> Tensor:
    """uint8 [N, 3, H, W] -> float32, (pixels / 255 - mean) / std a channel."""
    mean = torch.tensor(checkpoint.mean, device=pixels.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(checkpoint.std, device=pixels.device).view(1, 3, 1, 1) * 255
    return (pixels.float() - mean) / std


def channel_statistics(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation a channel in [0, 1] units, over uint8 [N, H, W, 3]."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(3):
        counts = np.zeros(256)
        for chunk in np.array_split(pixels, max(1, len(pixels) // 10_000)):
            counts += np.bincount(chunk[..., channel].ravel(), minlength=256)
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
        means.append(round(mean, 4))
        stds.append(max(round(variance**0.5, 4), 1 / 255))
    return means, stds
