"""Where training curves go besides ``metrics.csv``: Lightning Fabric's loggers, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from isoserve.models.errors import InputError

LoggerName = Literal["csv", "tensorboard"]


def make_loggers(name: LoggerName, output: Path) -> list[Logger]:
    """The loggers of a run in ``output``; none for ``csv``, whose file every run writes.

    Nothing is written before the first epoch has ended.

    Raises:
        InputError: the logger's package is not installed.
    """
    if name == "csv":
        return []
    try:
        return [TensorBoardLogger(output, name="tensorboard", version="")]
    except ModuleNotFoundError as error:
        raise InputError(
            "--logger is tensorboard, which is not installed: pip install 'isoserve[tensorboard]'"
        ) from error
