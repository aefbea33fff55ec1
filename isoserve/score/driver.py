"""Gives units to workers until each is done or has failed twice, and adds up their counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from isoserve.score.counts import Counts
from isoserve.score.plan import Output, Plan
from isoserve.score.pool import Pool, UnitFailed
from isoserve.score.units import Unit
from isoserve.score.worker import counts_of

MOST_TRIES = 2


@dataclass(slots=True)
class Outcomes:
    """What came of the units."""

    counts: Counts
    failed: dict[int, str] = field(default_factory=dict)
    """Units that failed on every try -> why."""


def score_units(
    units: Iterable[Unit], pool: Pool, found: Outcomes, progress: Callable[[Counts], None]
) -> None:
    """Score the units; what came of them is added to ``found``.

    Args:
        progress: told the counts of each unit that was scored.
    """
    waiting = deque(units)
    tries: dict[int, int] = {}
    running = 0
    while waiting or running:
        while waiting and pool.idle:
            unit = waiting.popleft()
            tries[unit.index] = tries.get(unit.index, 0) + 1
            pool.submit(unit)
            running += 1
        for unit, outcome in pool.outcomes():
            running -= 1
            if not isinstance(outcome, UnitFailed):
                found.counts += outcome
                progress(outcome)
            elif tries[unit.index] < MOST_TRIES:
                waiting.append(unit)
            else:
                found.failed[unit.index] = str(outcome)


def counts_so_far(plan: Plan, output: Output, done: Iterable[int]) -> Counts:
    """Of the units that an earlier run finished, as their files say."""
    total = Counts.empty(len(plan.classes))
    units = {unit.index: unit for unit in plan.units}
    for index in done:
        total += counts_of(f"{output.url}/{units[index].file_name}")
    return total
