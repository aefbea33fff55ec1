"""A trained classifier as the evaluation uses it: frozen, fed with pixels in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoserve.training.batches import normalise
from isoserve.training.checkpoint import Checkpoint

Pixels = NDArray[np.uint8]
"""[N, H, W, 3], RGB."""


class TrainedNetwork:
    """Weights that take no gradient, in evaluation mode and float32, on one device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.checkpoint = checkpoint
        self.classifier = checkpoint.classifier().requires_grad_(False).to(self.device)
        self.std = torch.tensor(checkpoint.std, device=self.device).view(1, 3, 1, 1)
        """Standard deviation a channel in [0, 1] units, [1, 3, 1, 1]: a step of one unit of a
        pixel is a step of 1 / std of the network's input."""
        black, white = torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 255.0)
        self.lowest = normalise(black.to(self.device), checkpoint)
        self.highest = normalise(white.to(self.device), checkpoint)

    def batches(self, pixels: Pixels, size: int = 250) -> Iterator[Tensor]:
        """Normalised float32 [B, 3, H, W], in order."""
        for start in range(0, len(pixels), size):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + size]))
            yield normalise(batch.to(self.device).permute(0, 3, 1, 2), self.checkpoint)

    def score(self, measure: Callable[[Tensor], Tensor], pixels: Pixels) -> NDArray[np.float64]:
        """Apply ``measure`` [B, 3, H, W] -> [B, ...] to all images, in batches, and join."""
        parts = [measure(batch).detach().double().cpu() for batch in self.batches(pixels)]
        return torch.cat(parts).numpy()

    def gradient(
        self, images: Tensor, objective: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The objective of each image [B] and the gradient [B, 3, H, W] of its sum."""
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            values = objective(images)
            (gradient,) = torch.autograd.grad(values.sum(), images)
        return values.detach(), gradient
