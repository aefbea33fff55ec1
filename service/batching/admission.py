"""Which images may still join a queue: a bound on how long the last of them will wait.

Two limits. In ordinary times the expected wait (images ahead x measured seconds an image / servers)
may reach ``QueueLimits.seconds``, so that bursts and many steady clients are served. Once that has
been exceeded more is offered than can be served, and a long queue would only make every accepted
image late: until a while has passed in which nothing was refused, the queue is kept as short as
still fills the servers' batches. The time an accepted image takes is so bounded at any load.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from isoserve.models.text import pluralize
from isoserve.service.batching.errors import QueueFull

COST_SMOOTHING = 0.2
"""Weight of the newest batch in the running means of its images and its seconds."""

SHORT_QUEUE = 4
"""Images a server that may wait under overload too, if that takes no longer than the limit: a batch
of about as many is near a network's best rate. One image a server may wait whatever it costs."""

CALM_SECONDS = 1.0
"""The long queue is back after this long without a refusal; the least Retry-After there is."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait, and for how long."""

    images: int
    seconds: float
    max_batch: int
    run_seconds: float = 60.0
    """The longest that one run of a network may take."""
    close_seconds: float = 20.0
    """How long what runs and waits may take when the server stops."""


class Admission:
    """The admission to one queue; its caller holds the queue's lock.

    Args:
        servers: how many threads empty the queue.
    """

    def __init__(self, limits: QueueLimits, servers: int) -> None:
        self.seconds_an_image = 0.0
        self._seconds = self._images = 0.0
        self._limits = limits
        self._servers = servers
        self._strict_until = 0.0

    def admit(self, waiting: int, images: int) -> None:
        """Let ``images`` join the ``waiting`` ones, or refuse them.

        Raises:
            QueueFull: with the limit that was met.
        """
        if limit := self.limit_met(waiting, images):
            raise self.refusal(limit, waiting)

    def refusal(self, limit: str, waiting: int) -> QueueFull:
        """The answer to images that meet ``limit``; with it the queue begins to be held short."""
        self._strict_until = perf_counter() + CALM_SECONDS
        expected = waiting * self.seconds_an_image / self._servers
        return QueueFull(limit, f"{pluralize(waiting, 'image')} waiting already", expected)

    def limit_met(self, waiting: int, images: int) -> str:
        """The limit that keeps ``images`` from joining the ``waiting`` ones; empty when none."""
        if waiting + images > self._limits.images:
            return "images"
        if waiting < self._servers:
            return ""
        if waiting * self.seconds_an_image / self._servers > self._limits.seconds:
            return "seconds"
        if waiting < SHORT_QUEUE * self._servers:
            return ""
        return "overload" if perf_counter() < self._strict_until else ""

    @property
    def late_after(self) -> float:
        """Seconds of waiting that no admitted image should see, unless something has stalled."""
        fullest = (SHORT_QUEUE + self._limits.max_batch) * self.seconds_an_image
        return 2 * max(self._limits.seconds, fullest)

    def served(self, images: int, seconds: float) -> None:
        """Learn what a batch cost.

        Its images and its seconds are averaged apart: else a batch of one that was held up for a
        moment would count as much as one of thirty, and have images refused that can be served.
        """
        weight = COST_SMOOTHING if self._images else 1.0
        self._seconds += weight * (seconds - self._seconds)
        self._images += weight * (images - self._images)
        self.seconds_an_image = self._seconds / self._images
