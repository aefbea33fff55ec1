"""Gives units to workers until each is done or has failed twice, and adds up their counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from isoserve.models.errors import InputError
from isoserve.score.counts import Counts
from isoserve.score.plan import Output, Plan
from isoserve.score.pool import Pool, UnitFailed
from isoserve.score.units import FILES_AT_ONCE, Unit
from isoserve.score.worker import counts_of

MOST_AGAIN = 1000
"""Units that failed once and wait for the end; beyond it they take their turn."""


@dataclass(slots=True)
class Outcomes:
    """What came of the units."""

    counts: Counts
    failed: list[tuple[Unit, str]] = field(default_factory=list)
    """Units that failed on every try, and why."""


def score_units(
    units: Iterable[Unit], pool: Pool, found: Outcomes, advance: Callable[[], None]
) -> None:
    """Score the units; what came of them is added to ``found``.

    Args:
        advance: called after each unit that was scored, or that failed for good.
    """
    fresh = iter(units)
    again: deque[Unit] = deque()
    tried: set[int] = set()
    running = 0
    while True:
        while pool.idle and (unit := _next(fresh, again)):
            pool.submit(unit)
            running += 1
        if not running:
            return
        for unit, outcome in pool.outcomes():
            running -= 1
            if not isinstance(outcome, UnitFailed):
                found.counts += outcome
                advance()
            elif unit.index not in tried:
                tried.add(unit.index)
                again.append(unit)
            else:
                found.failed.append((unit, str(outcome)))
                advance()


def _next(fresh: Iterator[Unit], again: deque[Unit]) -> Unit | None:
    """What failed once waits until the others are done: a store may be back by then."""
    if len(again) < MOST_AGAIN and (unit := next(fresh, None)):
        return unit
    return again.popleft() if again else None


def counts_so_far(plan: Plan, output: Output, done: Iterable[int]) -> Counts:
    """Of the units that an earlier run finished, as their files say.

    Raises:
        InputError: one of these files is none that this command wrote.
    """
    total = Counts.empty(len(plan.classes))
    indices = iter(sorted(done))
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        while some := [output.part_url(index) for index in islice(indices, 8 * FILES_AT_ONCE)]:
            for counts in threads.map(_counts_of, some):
                total += counts
    return total


def _counts_of(url: str) -> Counts:
    try:
        return counts_of(url)
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{url}' is not whole, or not of isoserve score: remove it, and its unit is scored "
            f"again ({error})"
        ) from error
