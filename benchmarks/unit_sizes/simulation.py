"""A scoring run as a queue of units, workers that die, and what is lost thereby: event by event."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MOST_TRIES = 2
"""Of a unit, as ``isoserve score`` tries it."""


@dataclass(frozen=True)
class Run:
    """What is simulated; times are in seconds."""

    unit: int
    """Images in one."""
    mean_life: float
    """Of a worker, whose death may come at any moment: exponentially distributed."""
    images: int = 10**9
    workers: int = 4096
    images_per_second: float = 20.0
    """Of one worker on one core: a photograph at 224 x 224 takes about 50 ms."""
    spread: float = 0.1
    """Standard deviation of the logarithm of a worker's pace: machines differ."""
    unit_seconds: float = 1.0
    """What each unit costs besides: open the source, write a Parquet file, rename it."""
    restart_seconds: float = 60.0
    """From a death to the successor's first image: a pod, a process, a model."""


@dataclass(frozen=True)
class Outcome:
    """Shares are of the time that the images themselves take."""

    units: int
    redone: float
    """Work that died with its worker and was done again."""
    opening: float
    """Spent on files."""
    waiting: float
    """Of workers with nothing to do while the last units end."""
    hours: float
    """From the first unit to the last."""
    failed_units: int
    """Whose worker died on every try: named in ``_failed.json``, and done by the same command."""


_FREE, _RETURNED = 0, 1
"""Kinds of event: a worker that wants a unit, and a unit whose worker died."""


def simulate(run: Run, seed: int) -> Outcome:
    """Until every unit is done, or has failed as often as the driver tries it."""
    rng = np.random.default_rng(seed)
    units = -(-run.images // run.unit)
    pace = run.images_per_second * np.exp(rng.normal(0.0, run.spread, run.workers))
    needed = (run.unit_seconds + run.unit / pace).tolist()
    lives = _lives(rng, run.mean_life)
    deaths = [next(lives) for _ in range(run.workers)]
    fresh, again = units, deque[int]()  # units never tried; of the others how often they were
    events = [(0.0, _FREE, worker) for worker in range(run.workers)]
    idle: list[int] = []
    since = [0.0] * run.workers
    lost = waited = last = 0.0
    tries = failed = 0
    while events:
        now, kind, number = heapq.heappop(events)
        if kind == _FREE:
            idle.append(number)
            since[number] = now
        elif number < MOST_TRIES:
            again.append(number)
        else:
            failed += 1
        while idle and (fresh or again):
            worker = idle.pop()
            waited += now - since[worker]
            before = 0
            if fresh:
                fresh -= 1
            else:
                before = again.popleft()
            tries += 1
            end, death = now + needed[worker], deaths[worker]
            if end <= death:
                heapq.heappush(events, (end, _FREE, worker))
                last = max(last, end)
                continue
            death = max(death, now)  # it died while it had nothing to do
            lost += death - now
            deaths[worker] = death + run.restart_seconds + next(lives)
            heapq.heappush(events, (death, _RETURNED, before + 1))
            heapq.heappush(events, (death + run.restart_seconds, _FREE, worker))
    waited += sum(max(last - since[worker], 0.0) for worker in idle)
    useful = float(run.images / run.images_per_second)
    return Outcome(
        units=units,
        redone=lost / useful,
        opening=tries * run.unit_seconds / useful,
        waiting=waited / useful,
        hours=last / 3600,
        failed_units=failed,
    )


def redone_on_paper(run: Run) -> float:
    """Share redone without differences between workers: (exp(x) - 1) / x - 1, x = time / life."""
    x = (run.unit_seconds + run.unit / run.images_per_second) / run.mean_life
    return math.expm1(x) / x - 1


def _lives(rng: np.random.Generator, mean: float) -> Iterator[float]:
    while True:
        yield from rng.exponential(mean, 4096).tolist()
