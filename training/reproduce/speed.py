"""What a system costs: its time an image against one plain pass of the same network."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from isoserve.training.reproduce.grid import Cell
from isoserve.training.reproduce.systems import Scorer

ROUNDS = 7
BATCH = 100


@dataclass(frozen=True)
class Cost:
    """Of one system on one network; nothing here repeats to the last digit."""

    network: str
    system: str
    milliseconds: float
    """An image, median over the rounds."""
    passes: float
    """Median over the rounds of its time over a plain pass's time in the same round."""


def measure_costs(cell: Cell, images: int = BATCH) -> list[Cost]:
    """Time each system of a cell, interleaved with plain passes in one run."""
    evaluation = cell.evaluation
    pixels = cell.test.pixels[:images]
    network = evaluation.network

    @torch.no_grad()
    def plain(batch: torch.Tensor) -> torch.Tensor:
        predicted: torch.Tensor = network.classifier(batch).cold_logits.argmax(dim=1)
        return predicted

    scorers: dict[str, Scorer] = {"plain pass": plain}
    scorers |= {system.name: evaluation.fitted(system).scorer for system in cell.systems}
    seconds: dict[str, list[float]] = {name: [] for name in scorers}
    for round_number in range(ROUNDS + 1):
        for name, scorer in scorers.items():
            began = time.perf_counter()
            network.score(scorer, pixels)
            if round_number:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return [
        Cost(
            network=evaluation.training.recipe.network,
            system=name,
            milliseconds=1000 * statistics.median(times) / len(pixels),
            passes=statistics.median(
                took / base for took, base in zip(times, seconds["plain pass"], strict=True)
            ),
        )
        for name, times in seconds.items()
        if name != "plain pass"
    ]
