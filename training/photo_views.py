"""Views of photographs to train on: crops out of more pixels than the network takes, and colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.torchvision_import import import_torchvision
from isoserve.training.data import LabelledImages
from isoserve.training.pixel_arrays import decode_files

MARGIN = 8 / 7
"""Photographs are held at so many times the network's sides: 256 for 224."""

SMALLEST_CROP = 0.35
"""Share of a photograph's area; below it, a shirt's crop may as well be of a dress."""


def held_larger(images: LabelledImages, spec: InputSpec) -> NDArray[np.uint8]:
    """The images with more pixels than the network takes, uint8 [N, H, W, 3].

    They are read again from their files; what came from elsewhere stays as it is.
    """
    paths = [Path(name) for name in images.paths]
    if not paths or not all(path.is_file() for path in paths):
        return images.pixels
    height, width = (round(MARGIN * side / spec.crop) for side in (spec.height, spec.width))
    pixels, reasons = decode_files(paths, InputSpec(height=height, width=width))
    for path, reason in zip(paths, reasons, strict=True):
        if reason:
            raise InputError(f"{path} could be read before and cannot now: {reason}")
    return pixels


class PhotoViews:
    """Random views of single images, uint8 [3, H, W] -> uint8 [3, height, width].

    ``light``: random resized crop, mirroring, a little brightness, contrast and saturation.
    ``strong``: the same crop, then TrivialAugment (Müller and Hutter, 2021) and random erasing
    (Zhong et al., 2020). All of them are torchvision's.
    """

    def __init__(
        self, size: tuple[int, int], *, strength: Literal["light", "strong"], flip: bool
    ) -> None:
        v2: Any = import_torchvision("torchvision.transforms.v2")
        steps = [v2.RandomResizedCrop(size, scale=(SMALLEST_CROP, 1.0), antialias=True)]
        if flip:
            steps.append(v2.RandomHorizontalFlip())
        if strength == "light":
            steps.append(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.2))
        else:
            steps += [v2.TrivialAugmentWide(), v2.RandomErasing(p=0.25)]
        self._view = v2.Compose(steps)

    def batch(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A view of each image: uint8 [B, 3, H, W] -> [B, 3, height, width], on one device.

        The generator alone decides; the global one is left as it was.
        """
        seed = int(torch.randint(2**62, (1,), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return torch.stack([self._view(image) for image in images])


def mix(
    inputs: Tensor, targets: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """MixUp (Zhang et al., 2018) or CutMix (Yun et al., 2019) of a batch, by the toss of a coin.

    Args:
        inputs: float [B, 3, H, W].
        targets: int64 [B].
        alpha: of the Beta distribution that the share is drawn from.
    """
    v2: Any = import_torchvision("torchvision.transforms.v2")
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        kind = v2.MixUp if torch.rand(()) < 0.5 else v2.CutMix
        mixed: tuple[Tensor, Tensor] = kind(alpha=alpha, num_classes=classes)(inputs, targets)
        return mixed
