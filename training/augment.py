"""The papers' augmentation, for a whole batch at once: padded random crop and horizontal flip."""

from __future__ import annotations

import torch
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
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).permute(0, 2, 3, 1)
    device = images.device
    index = torch.arange(batch, device=device)[:, None, None]
    cropped = padded[index, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return cropped.permute(0, 3, 1, 2)  # channels-last memory, [B, 3, H, W]
