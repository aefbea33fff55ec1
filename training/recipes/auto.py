"""The recipe that suits the images and the machine, and why, where none was named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from isoserve.models.backbones import SMALL
from isoserve.models.cpu_quota import usable_cores
from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import image_files
from isoserve.models.text import pluralize
from isoserve.training.layout import read_layout
from isoserve.training.named_sets import NAMED_SETS
from isoserve.training.recipe import Recipe

SMALL_SIDE = 96
"""Images whose shorter side is below this are no photographs to a network for photographs.

Enlarged to 224 pixels, CIFAR's 32 tell a frozen one three classes in four; a small network that
learns them from the start, more than nine in ten.
"""

MANY_IMAGES = 1000
"""Fewer train a head alone, which does better with them: see docs/training.md."""

BUDGET_SECONDS = 600
"""What a training without an accelerator may take, reading and exporting apart."""

IMAGES_A_CORE_SECOND = 15
"""Photographs of which a core trains :data:`UPPER_LAYERS` in a second, roughly."""

FEWEST_EPOCHS, MOST_EPOCHS = 4, 30
"""In fewer the network is left worse than its head alone would have been trained."""

HELD_OUT: float = Recipe.model_fields["held_out"].default

UPPER_LAYERS: Mapping[str, Any] = {"freeze": 0.3, "crop_size": 176, "precision": "32-true"}
"""Of ``finetune`` in minutes on a processor: the layers that see most pixels, with one weight in
sixty, stay as they are, and training sees smaller crops. bfloat16 is no faster where convolutions
are a channel each (33 against 29 photographs a second on two cores)."""

_LOOKED_AT = 48


@dataclass(frozen=True)
class Choice:
    """A recipe's name, one line that says why, and settings that go with it."""

    recipe: str
    reason: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Survey:
    """What a source holds, as far as it can be told without decoding."""

    images: int
    """Nought where they are in no folder."""
    side: float
    """Median of the shorter sides, in pixels; infinite where no file could be read."""


def choose(source: str, stated: Mapping[str, Any], accelerator: str) -> Choice:
    """Choose a recipe.

    Args:
        source: as ``isoserve train`` takes it; it need not exist.
        stated: settings that the user gave, by the recipe's field.
        accelerator: as the user gave it, ``auto`` included.
    """
    network, weights = stated.get("network"), stated.get("weights")
    if weights == "none" or (network in SMALL and weights is None):
        return Choice("paper", "the network starts from random weights", {})
    if network in SMALL:
        return Choice("finetune", f"{network} starts from weights that were given", {})
    survey = Survey(0, 32) if source.lower() in NAMED_SETS else look_at(Path(source))
    if network is None and weights is None and survey.side < SMALL_SIDE:
        reason = f"images of {survey.side:.0f} pixels are learned best by a small network"
        return Choice("fast", reason, {})
    found = f"{pluralize(survey.images, 'photograph')} and " if survey.images else ""
    if not _has_accelerator(accelerator):
        epochs = _epochs_in_budget(survey.images, stated)
        if epochs >= FEWEST_EPOCHS:
            cores = pluralize(usable_cores(), "core")
            reason = f"{found}{cores}: all but the first layers of a pretrained network are trained"
            reason += f" for {epochs} epochs, in about {BUDGET_SECONDS // 60} minutes"
            return Choice("finetune", reason, {"epochs": epochs, **UPPER_LAYERS})
        reason = found + "no accelerator: only the head of a pretrained network is trained"
        return Choice("frozen", reason, {})
    if 0 < survey.images < MANY_IMAGES:
        reason = f"{survey.images} photographs are few: only the head of a pretrained network is"
        return Choice("frozen", reason + " trained", {})
    return Choice("finetune", found + "an accelerator: a pretrained network is trained on", {})


def _epochs_in_budget(images: int, stated: Mapping[str, Any]) -> int:
    """How many epochs of :data:`UPPER_LAYERS` fit; none where nothing is known of their cost."""
    own = stated.get("network") in (None, "efficientnet_lite0") and not stated.get("image_size")
    if images < MANY_IMAGES or not own:
        return 0
    trained = images * (1 - stated.get("held_out", HELD_OUT))
    affordable = BUDGET_SECONDS * IMAGES_A_CORE_SECOND * usable_cores() / trained
    return min(int(affordable), MOST_EPOCHS)


def look_at(root: Path) -> Survey:
    """Count the training images below a folder, and read the sizes of some."""
    try:
        folder = read_layout(root).train or root
        paths = sorted(image_files(folder, lambda _: None))
    except (InputError, OSError):  # told when the images are loaded
        paths = []
    sides = []
    for path in paths[:: max(len(paths) // _LOOKED_AT, 1)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except (OSError, SyntaxError, ValueError):
            continue  # told when the images are loaded
    return Survey(len(paths), median(sides) if sides else math.inf)


def _has_accelerator(name: str) -> bool:
    if name == "auto":
        return bool(torch.cuda.is_available() or torch.backends.mps.is_available())
    return name != "cpu"
