"""ACET, adversarial confidence-enhancing training (Hein et al., CVPR 2019).

Beside each batch of images goes a batch of noise, moved by projected gradient ascent to where the
network is surest of itself; the loss adds the largest log-probability there. The IsoMax papers
copied ACET's column from Hein et al., whose network and out-distributions differ: their numbers
and ours do not compare cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from isoserve.models.heads import Logits

RADIUS = 0.3
"""Of the L-infinity ball around the noise, in [0, 1] units."""

STEPS = 40
"""Signed gradient steps; each is RADIUS / STEPS long."""

SIGMA = (1.0, 2.5)
"""Range of the low-pass filter's standard deviation, in pixels."""

_FILTER_RADIUS = 10


def noise_images(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Half the batch pixel-permuted training images, half uniform noise; low-passed, full range.

    Args:
        pixels: uint8 [B, 3, H, W].
        generator: on the CPU; fixes the noise.

    Returns:
        float32 [B, 3, H, W] in [0, 1], each image reaching both ends.
    """
    count, channels, height, width = pixels.shape
    device = pixels.device
    permuted_count = count // 2
    orders = torch.rand((permuted_count, height * width), generator=generator).argsort(dim=1)
    flat = pixels[:permuted_count].flatten(2).float() / 255  # [B // 2, 3, H * W]
    places = orders.to(device).unsqueeze(1).expand(-1, channels, -1)
    permuted = flat.gather(2, places).reshape(permuted_count, channels, height, width)
    uniform = torch.rand((count - permuted_count, channels, height, width), generator=generator)
    sigmas = torch.empty(count).uniform_(*SIGMA, generator=generator)
    smooth = low_pass(torch.cat([permuted, uniform.to(device)]), sigmas.to(device))
    low = smooth.amin(dim=(1, 2, 3), keepdim=True)
    span = smooth.amax(dim=(1, 2, 3), keepdim=True) - low
    return (smooth - low) / span.clamp_min(torch.finfo(torch.float32).tiny)


def low_pass(images: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian filter, each image [B, 3, H, W] with its own sigma [B], edges mirrored."""
    batch, channels, height, width = images.shape
    radius = min(_FILTER_RADIUS, height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigmas.unsqueeze(1)) ** 2)  # [B, 2r+1]
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    stacked = padded.reshape(1, batch * channels, *padded.shape[2:])
    stacked = F.conv2d(stacked, kernels[:, None, :, None], groups=batch * channels)
    stacked = F.conv2d(stacked, kernels[:, None, None, :], groups=batch * channels)
    return stacked.reshape(batch, channels, height, width)


def most_confident(
    confidence: Callable[[Tensor], Tensor],
    noise: Tensor,
    steps: int = STEPS,
    radius: float = RADIUS,
) -> Tensor:
    """Climb ``confidence`` [B, 3, H, W] in [0, 1] -> [B] by signed steps from ``noise``.

    Returns:
        [B, 3, H, W] in [0, 1], within ``radius`` of the noise in every value.
    """
    low, high = (noise - radius).clamp_min(0.0), (noise + radius).clamp_max(1.0)
    current = noise
    for _ in range(steps):
        with torch.enable_grad():
            current = current.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(confidence(current).sum(), current)
        moved = current.detach() + radius / steps * gradient.sign()
        current = torch.minimum(torch.maximum(moved, low), high)
    return current.detach()


def largest_log_probability(logits: Tensor) -> Tensor:
    """max log softmax(logits), [N, C] -> [N]: what ACET lowers on noise."""
    return logits.log_softmax(dim=1).amax(dim=1)


def split_logits(logits: Logits, count: int) -> tuple[Logits, Logits]:
    """A batch's logits [N, C] -> those of its first ``count`` images and of the rest."""
    first = Logits(*(part[:count] for part in logits))
    return first, Logits(*(part[count:] for part in logits))
