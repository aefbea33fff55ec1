"""Ways to train, by name: each is its defaults for the :class:`Recipe` and a loop that follows it.

To add one: a module here that makes a :class:`Way`, its name in :data:`WAYS` and in
``Recipe.recipe``, and, where it should be chosen without being named, a rule in
:mod:`isoserve.training.recipes.auto`.
"""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.recipe import Recipe
from isoserve.training.recipes.fast import FAST
from isoserve.training.recipes.finetune import FINETUNE
from isoserve.training.recipes.frozen import FROZEN
from isoserve.training.recipes.paper import PAPER
from isoserve.training.recipes.way import Way

WAYS: dict[str, Way] = {
    "frozen": FROZEN,
    "finetune": FINETUNE,
    "fast": FAST,
    "paper": PAPER,
}


def fit(
    fabric: Fabric, recipe: Recipe, source: str, images: LabelledImages, output: Path
) -> Checkpoint:
    """Train as the recipe's way does, going on from ``output``'s checkpoint if there is one.

    Returns:
        The last checkpoint, also saved in ``output``.

    Raises:
        InputError: the checkpoint there was made by another recipe or from other images, or the
            images are too few.
    """
    return WAYS[recipe.recipe].fit(fabric, recipe, source, images, output)
