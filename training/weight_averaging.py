"""The mean of several fine-tuned networks' weights: one network, better than each.

After Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time", 2022: networks that were fine-tuned from the same
published weights lie in one basin of the loss, so the mean of their weights is a good network too.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.batches import ResidentImages, normalise
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import evenly_spread

STATISTICS_IMAGES = 2000
"""Training images that the normalisation's statistics are measured on again."""

_ALIKE = ("network", "loss", "weights", "seed", "held_out", "alpha", "delta")


def average(fabric: Fabric, members: Sequence[Checkpoint], training: LabelledImages) -> Checkpoint:
    """The runs' mean, as a checkpoint that can be exported and taught from, but not resumed.

    Args:
        members: of :func:`check_alike`; the first one's recipe is kept.
        training: what they were trained on; batch normalisation's means and variances are measured
            on it anew, since those of averaged weights are not the average.
    """
    weights = mean_weights([member.averaged or member.weights for member in members])
    merged = replace(
        members[0],
        command=printable(shlex.join(["isoserve", *sys.argv[1:]])),
        history=[],
        weights=weights,
        averaged={},
        optimizer={},
    )
    network = merged.classifier().to(fabric.device)
    _measure_again(fabric, network, training, merged)
    return replace(merged, weights={k: v.cpu() for k, v in network.state_dict().items()})


def check_alike(runs: Sequence[Path]) -> list[Checkpoint]:
    """The runs' checkpoints, once all are found to fit together.

    Raises:
        InputError: fewer than two runs, one that began from random weights, or runs that differ in
            network, loss, starting weights, images or the images they held out.
    """
    if len(runs) < 2:
        raise InputError(f"{len(runs)} run: an average needs at least two")
    members = [Checkpoint.load(run) for run in runs]
    for run, member in zip(runs, members, strict=True):
        if member.recipe["weights"] == "none":
            raise InputError(
                f"{run} began from random weights: only runs that were fine-tuned from the same "
                "published weights (--weights) have a meaningful average"
            )
    for (run, left), (other, right) in pairwise(zip(runs, members, strict=True)):
        for what, ours, theirs in (
            *((key, left.recipe[key], right.recipe[key]) for key in _ALIKE),
            ("images (digest)", left.data_digest[:12], right.data_digest[:12]),
            ("input", left.input, right.input),
        ):
            if ours != theirs:
                raise InputError(f"{run} has {what} {ours}, {other} has {theirs}: not alike")
    return members


def mean_weights(members: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor; counters are the first member's."""
    return {
        name: torch.stack([member[name].float() for member in members]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in members[0].items()
    }


@torch.no_grad()
def _measure_again(
    fabric: Fabric, network: nn.Module, training: LabelledImages, start: Checkpoint
) -> None:
    """Batch normalisation's means and variances, as plain means over batches of these images."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    images = ResidentImages(fabric, training)
    chosen = evenly_spread(len(training), min(STATISTICS_IMAGES, len(training)))
    for start_of_batch in range(0, len(chosen), 250):
        pixels, _ = images.batch(chosen[start_of_batch : start_of_batch + 250])
        with fabric.autocast():
            network(normalise(pixels, start))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    network.eval()
