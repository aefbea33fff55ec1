"""How far a run is: a bar on a terminal, a line now and then in a pipe or a log."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from isoserve.score.counts import Counts

LINE_SECONDS = 10.0
"""Between two lines, where there is no terminal."""


class ScoreProgress:
    """Images scored, images a second, the time left and rejections so far.

    Args:
        found: all counts, those of a former run among them; read at each unit's end.
        images: planned, as far as that is known: tars do not say how many they hold.
        units: planned, and done before.
    """

    def __init__(
        self,
        found: Callable[[], Counts],
        images: int | None,
        units: tuple[int, int],
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._found, self._images = found, images
        self._units, self._done = units
        self._done_before = self._done
        self._scored_before = found().images
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._began = self._said = clock()
        self._bar = Progress(
            TextColumn("scoring"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=images, completed=found().images, pace="")

    def __enter__(self) -> ScoreProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """A unit has ended."""
        self._done += 1
        found, now = self._found(), self._clock()
        rate = (found.images - self._scored_before) / max(now - self._began, 1e-9)
        pace = f"{rate:,.0f} images/s, {found.rejected:,} rejected, {found.failed:,} failed"
        self._bar.update(self._task, completed=found.images, pace=pace)
        if self._console.is_terminal or now - self._said < LINE_SECONDS:
            return
        self._said = now
        of = f" of {self._images:,}" if self._images else ""
        self._console.print(
            f"scored {found.images:,}{of} images, {self._done:,} of {self._units:,} units: {pace}, "
            f"{self._left(now)} left",
            highlight=False,
            soft_wrap=True,
        )

    def _left(self, now: float) -> str:
        """By units, which are known beforehand whatever the source."""
        each = (now - self._began) / (self._done - self._done_before)
        seconds = round(each * (self._units - self._done))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds % 60:02d} s"
