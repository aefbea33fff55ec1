"""Augmentation of a whole batch at once, on the device where it lies."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(images: Tensor, generator: torch.Generator, flip: bool = True) -> Tensor:
    """Shift each image by up to an eighth of its side, black coming in, and mirror half of them.

    At 32x32 this is RandomCrop(32, padding=4) and RandomHorizontalFlip of [IsoMax2].

    Args:
        images: uint8 [B, 3, H, W].
        generator: on the CPU; the same generator state gives the same crops on any device.
        flip: off for digits, text and whatever has a handedness.
    """
    batch, _, height, width = images.shape
    pad_y, pad_x = height // 8, width // 8
    top = torch.randint(0, 2 * pad_y + 1, (batch, 1), generator=generator)
    left = torch.randint(0, 2 * pad_x + 1, (batch, 1), generator=generator)
    mirrored = torch.rand((batch, 1), generator=generator) < 0.5
    rows = top + torch.arange(height)  # [B, H]
    columns = torch.arange(width).expand(batch, width)
    if flip:
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = left + columns  # [B, W]
    return _gather(F.pad(images, (pad_x, pad_x, pad_y, pad_y)), rows, columns)


def translate_and_alternate(
    images: Tensor, mirrored: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Shift each image by up to a sixteenth of its side, its own border reflected in.

    Args:
        images: uint8 [B, 3, H, W].
        mirrored: bool [B], which images are mirrored; None: none is. Taken from
            :func:`mirrored_in`, every image is seen one way round in one epoch and the other way
            round in the next (Jordan, 2024), where chance would repeat half of them.
        generator: on the CPU.
    """
    batch, _, height, width = images.shape
    pad_y, pad_x = height // 16, width // 16
    top = torch.randint(0, 2 * pad_y + 1, (batch, 1), generator=generator)
    left = torch.randint(0, 2 * pad_x + 1, (batch, 1), generator=generator)
    columns = torch.arange(width).expand(batch, width)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None].cpu(), width - 1 - columns, columns)
    rows = _reflected(top - pad_y + torch.arange(height), height)
    return _gather(images, rows, _reflected(left - pad_x + columns, width))


def mirrored_in(epoch: int, indices: NDArray[np.int64], count: int, seed: int) -> Tensor:
    """Which of the images ``indices`` of ``count`` are mirrored in an epoch, bool [B].

    Half of all images by chance in the first, the other half in the second, and so on in turn.
    """
    first = np.random.default_rng([seed, count, 2]).random(count) < 0.5
    return torch.from_numpy(first[indices] ^ bool(epoch % 2))


def cut_out(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square of each normalised image [B, 3, H, W] to 0, the mean (DeVries, 2017)."""
    batch, _, height, width = images.shape
    row = torch.randint(0, height, (batch, 1), generator=generator) - torch.arange(height)
    column = torch.randint(0, width, (batch, 1), generator=generator) - torch.arange(width)
    inside = [(2 * offset.abs() < side).to(images.device) for offset in (row, column)]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def _reflected(places: Tensor, length: int) -> Tensor:
    places = places.abs()
    return torch.where(places >= length, 2 * (length - 1) - places, places)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at rows [B, H] and columns [B, W], in channels-last memory, [B, 3, H, W]."""
    device = images.device
    index = torch.arange(len(images), device=device)[:, None, None]
    chosen = images.permute(0, 2, 3, 1)[
        index, rows.to(device)[:, :, None], columns.to(device)[:, None, :]
    ]
    return chosen.permute(0, 3, 1, 2)
