"""Where training curves go besides ``metrics.csv``: Lightning Fabric's loggers, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from isoserve.models.card import ModelCard
from isoserve.models.errors import InputError
from isoserve.training.mlflow_logger import MLflowLogger

LoggerName = Literal["csv", "tensorboard", "mlflow"]


def make_loggers(
    names: Sequence[LoggerName], output: Path, model_name: str | None = None
) -> list[Logger]:
    """The loggers of a run in ``output``; none for ``csv``, whose file every run writes.

    Nothing is written before the first epoch has ended.

    Args:
        model_name: what MLflow is to register the model as.

    Raises:
        InputError: the logger's package is not installed, or it lacks a setting.
    """
    loggers: list[Logger] = []
    if "tensorboard" in names:
        loggers.append(_tensorboard(output))
    if "mlflow" in names:
        loggers.append(MLflowLogger(output, model_name or ""))
    return loggers


def begin_runs(loggers: Sequence[Logger], parameters: dict[str, Any]) -> None:
    """Of those that know runs: begin one, or go on with the one that is resumed.

    Raises:
        InputError: a server does not answer, or refuses.
    """
    for logger in loggers:
        if isinstance(logger, MLflowLogger):
            logger.log_hyperparams(parameters)


def log_model(loggers: Sequence[Logger], path: Path, card: ModelCard) -> None:
    """Hand what was made to those that keep models.

    Raises:
        InputError: a server does not take it.
    """
    for logger in loggers:
        if isinstance(logger, MLflowLogger):
            logger.log_model(path, card)


@contextmanager
def finalized(loggers: Sequence[Logger]) -> Iterator[None]:
    """Tell each at the end whether the run came to its own."""
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        for logger in loggers:
            logger.finalize(status)


def _tensorboard(output: Path) -> Logger:
    try:
        return TensorBoardLogger(output, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise InputError(
            "--logger is tensorboard, which is not installed: pip install 'isoserve[tensorboard]'"
        ) from error
