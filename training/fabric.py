"""The accelerators and processes that a training runs on."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_fabric import Fabric
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.loggers.logger import Logger
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from isoserve.models.cpu_quota import usable_cores
from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.training.recipe import Recipe


def make_fabric(
    recipe: Recipe, accelerator: str, devices: str, nodes: int, loggers: Sequence[Logger] = ()
) -> Fabric:
    """The engine in the recipe's precision, not yet launched.

    Raises:
        InputError: there are no such accelerators or devices here, or fewer cores than processes
            to be started.
    """
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            precision=recipe.precision,
            loggers=list(loggers),
        )
    except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"--accelerator {accelerator} --devices {devices} --nodes {nodes}: {error}"
        ) from error
    cores = usable_cores()
    if _processes_to_start(fabric) > cores:
        raise InputError(
            f"--devices is {devices}: on the CPU that is as many processes, and here are "
            f"{pluralize(cores, 'core')}; give at most {cores}, or 1, which uses every core"
        )
    return fabric


def _processes_to_start(fabric: Fabric) -> int:
    """On this machine and its CPU; none where torchrun or a cluster has started them."""
    strategy = fabric.strategy
    if not (isinstance(fabric.accelerator, CPUAccelerator) and isinstance(strategy, DDPStrategy)):
        return 0
    environment = strategy.cluster_environment
    started = environment is not None and environment.creates_processes_externally
    return 0 if started else strategy.num_processes
