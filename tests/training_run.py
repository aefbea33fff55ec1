"""A training in this process, on the CPU, as ``isoserve train`` does it."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from isoserve.models.card import InputSpec
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, load_images
from isoserve.training.recipe import Recipe
from isoserve.training.trainer import fit


def training_images(folder: Path, recipe: Recipe) -> LabelledImages:
    """The folder's training images at the recipe's size, 32 where it has none."""
    side = recipe.image_size or 32
    return load_images(str(folder), "train", InputSpec(height=side, width=side), Path("unused"))


def train_here(folder: Path, recipe: Recipe, output: Path) -> Checkpoint:
    """Train, or go on from the checkpoint in ``output``; what is left is the last checkpoint."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
    fabric.launch()
    return fit(fabric, recipe, str(folder), training_images(folder, recipe), output)
