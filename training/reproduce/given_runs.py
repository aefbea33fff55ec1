"""Finished training runs that are evaluated in place of trainings of a scale's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from isoserve.models.errors import InputError
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.recipe import Recipe


@dataclass(frozen=True)
class GivenRun:
    """The ``--output`` folder of a training."""

    folder: Path
    recipe: Recipe
    images_digest: str
    """Of the images it was trained on, those it held out among them."""
    digest: str
    """Of the checkpoint's bytes."""


def read_given_runs(folders: Sequence[Path]) -> dict[str, GivenRun]:
    """The runs by their losses.

    Raises:
        InputError: no checkpoint in a folder, two runs of one loss, or of different networks.
    """
    found: dict[str, GivenRun] = {}
    for folder in folders:
        checkpoint = Checkpoint.load(folder)
        recipe = checkpoint.parsed_recipe()
        if recipe.loss in found:
            raise InputError(
                f"--trained {folder} and {found[recipe.loss].folder} are both of the loss "
                f"{recipe.loss!r}: give one run a loss"
            )
        digest = sha256((folder / FILE_NAME).read_bytes()).hexdigest()
        found[recipe.loss] = GivenRun(folder, recipe, checkpoint.data_digest, digest)
    networks = sorted({run.recipe.network for run in found.values()})
    if len(networks) > 1:
        raise InputError(f"--trained runs must be of one network, not of {', '.join(networks)}")
    return found
