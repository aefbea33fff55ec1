"""The accelerators and processes that a training runs on."""

from __future__ import annotations

from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from models.errors import InputError
from training.recipe import Recipe


def engine(recipe: Recipe, accelerator: str, devices: str, nodes: int) -> Fabric:
    """The engine in the recipe's precision, not yet launched.

    Raises:
        InputError: there are no such accelerators or devices here.
    """
    try:
        return Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, precision=recipe.precision
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"--accelerator {accelerator} --devices {devices} --nodes {nodes}: {error}"
        ) from error
