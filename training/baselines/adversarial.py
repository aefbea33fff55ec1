"""Fast-gradient-sign images (Goodfellow et al., 2015), which stand in for OOD data in tuning."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork

STEP = 0.05
"""In [0, 1] units; what Lee et al. (2018) use for FGSM on CIFAR and SVHN."""


def fast_gradient_sign(
    network: TrainedNetwork, images: Tensor, labels: Tensor, step: float = STEP
) -> Tensor:
    """One step up the cross-entropy, [B, 3, H, W] -> [B, 3, H, W], both normalised.

    The step is ``step`` in [0, 1] units in every value, clipped to what a pixel can be.
    """

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(network.classifier(x).cold_logits, labels, reduction="none")

    _, gradient = network.gradient(images, loss)
    moved = images + step / network.std * gradient.sign()
    return torch.minimum(torch.maximum(moved, network.lowest), network.highest)


def adversarial_pixels(
    network: TrainedNetwork, pixels: Pixels, labels: NDArray[np.int64], step: float = STEP
) -> Pixels:
    """The same as uint8 pixels, [N, H, W, 3] -> [N, H, W, 3], so that they can be stored."""
    made, start = [], 0
    for images in network.batches(pixels):
        targets = torch.from_numpy(labels[start : start + len(images)]).to(network.device)
        moved = fast_gradient_sign(network, images, targets, step)
        values = (moved - network.lowest) * network.std * 255
        made.append(values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        start += len(images)
    return np.concatenate(made)
