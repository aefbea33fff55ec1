"""The views of its images that a recipe trains on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoserve.training.augment import (
    crop_and_flip,
    cut_out,
    mirrored_in,
    translate_and_alternate,
)
from isoserve.training.batches import normalise
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.photo_views import PhotoViews, mix
from isoserve.training.pixmix import fractals, pixmix
from isoserve.training.recipe import Recipe

_FRACTALS = 512


class TrainingViews:
    """A recipe's augmentation of a set of ``count`` images, on the device where they lie."""

    def __init__(self, recipe: Recipe, count: int, start: Checkpoint) -> None:
        self.recipe, self.count, self.start = recipe, count, start
        self.fractals: Tensor | None = None
        self.photos: PhotoViews | None = None
        if recipe.augmentation == "photo":
            spec = start.input_spec()
            side = recipe.crop_size
            size = (spec.height, spec.width) if side is None else (side, side)
            self.photos = PhotoViews(size, strength="strong", flip=recipe.flip)

    def pixels(
        self, images: Tensor, indices: NDArray[np.int64], epoch: int, generator: torch.Generator
    ) -> Tensor:
        """Shifted, mirrored and mixed images, [B, 3, H, W] in [0, 255].

        Args:
            images: uint8 [B, 3, H, W], those of ``indices``.
            generator: on the CPU.
        """
        recipe = self.recipe
        if self.photos is not None:
            images = self.photos.batch(images, generator)
        elif recipe.augmentation == "translate":
            mirrored = None
            if recipe.flip:
                mirrored = mirrored_in(epoch, indices, self.count, recipe.seed)
            images = translate_and_alternate(images, mirrored, generator)
        else:
            images = crop_and_flip(images, generator, recipe.flip)
        mixed = round(recipe.pixmix * len(images))
        if not mixed:
            return images
        some = 255 * pixmix(images[:mixed].float() / 255, self._pictures(images), generator)
        return torch.cat([some, images[mixed:].float()])

    def inputs(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Pixels -> what the network takes, float32 [B, 3, H, W] in channels-last memory."""
        inputs = normalise(pixels, self.start)
        if self.recipe.cutout:
            inputs = cut_out(inputs, self.recipe.cutout, generator)
        return inputs.contiguous(memory_format=torch.channels_last)

    def mixed(
        self, inputs: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Each image with another of the batch, by MixUp or CutMix, and their labels likewise.

        Args:
            inputs: float [B, 3, H, W].
            targets: int64 [B].

        Returns:
            Inputs of the same shape, and the labels as shares [B, C]; both as they came where the
            recipe mixes nothing.
        """
        if not self.recipe.mixing:
            return inputs, targets
        mixed: tuple[Tensor, Tensor] = mix(
            inputs, targets, len(self.start.classes), self.recipe.mixing, generator
        )
        return mixed

    def _pictures(self, images: Tensor) -> Tensor:
        if self.fractals is None:
            height, width = images.shape[2:]
            pictures = fractals(_FRACTALS, max(height, width), self.recipe.seed)
            self.fractals = pictures[:, :, :height, :width].to(images.device)
        return self.fractals
