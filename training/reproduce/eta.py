"""Progress over the whole grid: what is being done, and how long the rest may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class EtaEstimator:
    """Counts work in passes of one image through a network; a backward pass counts twice.

    Steps found finished from an earlier run take no time and are left out of the pace.
    """

    def __init__(
        self,
        total: float,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.left, self.say, self.clock = total, say, clock
        self.done, self.seconds = 0.0, 0.0

    @contextmanager
    def step(self, words: str, work: float) -> Iterator[None]:
        """Announce a step of so much work with an estimate, and time it."""
        self.say(f"{words}{self._estimate()}")
        began = self.clock()
        yield
        took = self.clock() - began
        self.left -= work
        if took > _FOUND_SECONDS:
            self.done += work
            self.seconds += took

    def _estimate(self) -> str:
        if not self.done:
            return ""
        seconds = round(self.left * self.seconds / self.done)
        hours, minutes = divmod(seconds // 60, 60)
        left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds % 60:02d} s"
        return f"  (about {left} left)"


_FOUND_SECONDS = 0.2
