"""The moving average of a network's weights over the steps of its training."""

from __future__ import annotations

from typing import Any

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from isoserve.models.classifier import Classifier
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.recipe import Recipe


def moving_average(
    classifier: Classifier, recipe: Recipe, checkpoint: Checkpoint, steps: int
) -> AveragedModel | None:
    """The average so far, of batch normalisation's statistics too; None where none is wanted.

    Args:
        steps: of an epoch.
    """
    if not recipe.averaging:
        return None

    def average(averaged: Any, current: Any, count: Any) -> None:
        decay = decay_after(int(count), recipe.averaging)
        get_ema_multi_avg_fn(decay)(averaged, current, count)  # type: ignore[no-untyped-call]

    found = AveragedModel(classifier, multi_avg_fn=average, use_buffers=True)
    if checkpoint.averaged:
        found.module.load_state_dict(checkpoint.averaged)
        found.n_averaged.fill_(checkpoint.epoch * steps)
    return found


def decay_after(steps: int, most: float) -> float:
    """The decay of the next step: the average reaches back over about a tenth of the steps so far.

    A constant decay of 0.99 would leave a training of a hundred steps with a third of the weights
    that it began with.
    """
    return min(most, (1 + steps) / (10 + steps))
