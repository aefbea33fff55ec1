"""Gives units to workers until each is done or has failed twice, and adds up their counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from isoserve.score.counts import Counts
from isoserve.score.plan import Output, Plan
from isoserve.score.pool import Pool, UnitFailed
from isoserve.score.units import Unit
from isoserve.score.worker import counts_of

MOST_TRIES = 2
FILES_AT_ONCE = 32
"""Whose counts are read side by side: a store answers each in tens of milliseconds."""


@dataclass(slots=True)
class Outcomes:
    """What came of the units."""

    counts: Counts
    failed: dict[int, str] = field(default_factory=dict)
    """Units that failed on every try -> why."""


def score_units(
    units: Iterable[Unit], pool: Pool, found: Outcomes, advance: Callable[[], None]
) -> None:
    """Score the units; what came of them is added to ``found``.

    Args:
        advance: called after each unit that was scored, or that failed for good.
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
                advance()
            elif tries[unit.index] < MOST_TRIES:
                waiting.append(unit)
            else:
                found.failed[unit.index] = str(outcome)
                advance()


def counts_so_far(plan: Plan, output: Output, done: Iterable[int]) -> Counts:
    """Of the units that an earlier run finished, as their files say."""
    total = Counts.empty(len(plan.classes))
    units = {unit.index: unit for unit in plan.units}
    urls = [f"{output.url}/{units[index].file_name}" for index in done]
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        for counts in threads.map(counts_of, urls):
            total += counts
    return total
