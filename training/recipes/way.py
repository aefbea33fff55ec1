"""What a way to train consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.recipe import Recipe

Fit = Callable[[Fabric, Recipe, str, LabelledImages, Path], Checkpoint]
"""fabric, recipe, source, training images, output folder -> the last checkpoint, saved there."""


@dataclass(frozen=True)
class Way:
    """One way to train."""

    fit: Fit
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Of the recipe's fields, where they are not :class:`Recipe`'s own."""
