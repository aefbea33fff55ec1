"""A clock for deleting by age: it follows the system's, but for jumps, until they have lasted.

A clock set forty days ahead, by hand or at a boot without a time server, would delete all that is
kept, a person's labels included, before anybody sees it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger("isoserve.review")

JUMP_SECONDS = 3600.0
"""More than any time server corrects a clock that runs."""

PROBATION_SECONDS = 86_400.0
"""So long a jump has to last before it is believed, and a first look at the clock before all that
is kept is deleted by it."""


def seconds_since_boot() -> float:
    """Also those of a sleep, unlike the monotonic clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """The time of day, without jumps.

    Args:
        wall: the system's clock, in seconds.
        steady: seconds that nobody sets.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._began = steady()
        self._jumped_at: float | None = None

    def now(self) -> datetime:
        """The system's time; where its clock has jumped, what it would have been without."""
        wall, steady = self._wall(), self._steady()
        if abs(wall - steady - self._offset) <= JUMP_SECONDS:
            self._jumped_at = None
        elif self._jumped_at is None:
            self._jumped_at = steady
            days = (wall - steady - self._offset) / 86_400
            log.error("the clock has jumped by %+.2f days; for a day it is not gone by", days)
        if self._jumped_at is None or steady - self._jumped_at >= PROBATION_SECONDS:
            self._offset, self._jumped_at = wall - steady, None
        return datetime.fromtimestamp(steady + self._offset, UTC)

    @property
    def is_proven(self) -> bool:
        """Whether it has run long enough for a wrong start to have been noticed."""
        return self._steady() - self._began >= PROBATION_SECONDS


class AgeLimit:
    """From when on images are too old to be kept."""

    def __init__(self, clock: SteadyClock) -> None:
        self._clock = clock
        self._doubts = False

    def oldest(self, newest: datetime | None, days: float) -> datetime | None:
        """The oldest that may stay; None where the clock is not believed.

        Args:
            newest: of what is kept. If even that is too old, everything would go at once: then the
                clock has to be proven first.
        """
        oldest = self._clock.now() - timedelta(days=days)
        if newest is None or self._clock.is_proven:
            return oldest
        if newest.tzinfo is None:  # SQLite keeps no time zone
            newest = newest.replace(tzinfo=UTC)
        doubted, self._doubts = self._doubts, newest < oldest
        if self._doubts and not doubted:
            log.error(
                "by the clock all images kept for review are too old, the newest of %s; they are "
                "deleted in a day, unless the clock is wrong and is set right",
                f"{newest:%Y-%m-%d %H:%M}",
            )
        return None if self._doubts else oldest
