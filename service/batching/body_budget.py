"""The memory that the bodies of requests may take, over all transports together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from isoserve.service.batching.errors import QueueFull

SMALL_BYTES = 64 * 1024
"""Bodies up to here do not count against the budget: the number of connections bounds them."""

INFLATED_SHARE = 4
"""Of the budget, a body may be inflated into this part: a kilobyte can grow to a megabyte, and
what costs its sender nothing must leave room for those that sent theirs whole."""


class RequestEnded(Exception):
    """A thread still works on a request that has been answered or given up: it gets no more."""


class BodyBudget:
    """Bytes of the bodies in memory, over all requests; asked from any thread."""

    def __init__(self, limit: int, count_refusal: Callable[[], None]) -> None:
        self._limit = limit
        self._count_refusal = count_refusal
        self._lock = threading.Lock()
        self._held = self._inflated = 0

    @property
    def inflated_limit(self) -> int:
        """The most bytes that compressed bodies may be inflated to, all together."""
        return self._limit // INFLATED_SHARE

    def change(self, hold: BodyHold, size: int, inflated: int) -> None:
        """Let ``hold`` have so many bytes from now on.

        Raises:
            QueueFull: they are not to be had now.
            RequestEnded: the request has ended meanwhile.
        """
        with self._lock:
            if hold.released:
                raise RequestEnded
            held = self._held + size + inflated - hold.size - hold.inflated
            all_inflated = self._inflated + inflated - hold.inflated
            if held <= self._limit and all_inflated <= self.inflated_limit:
                self._held, self._inflated = held, all_inflated
                hold.size, hold.inflated = size, inflated
                return
        self._count_refusal()
        raise QueueFull("bytes", "the bodies of others fill the memory set aside for them")

    def release(self, hold: BodyHold) -> None:
        """Take back all that ``hold`` has; it gets no more."""
        with self._lock:
            self._held -= hold.size + hold.inflated
            self._inflated -= hold.inflated
            hold.size = hold.inflated = 0
            hold.released = True


class BodyHold:
    """What one request holds of the budget, until it is answered.

    Attributes:
        size, inflated: bytes of the body as it came, and of what it was inflated to.
        released: whether the request has ended.
    """

    __slots__ = ("_budget", "inflated", "released", "size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size = self.inflated = 0
        self.released = False

    @property
    def inflated_limit(self) -> int:
        """As :attr:`BodyBudget.inflated_limit`."""
        return self._budget.inflated_limit

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes of the body as it comes, where it is no longer small.

        Raises:
            QueueFull, RequestEnded: as :meth:`BodyBudget.change`.
        """
        if size > SMALL_BYTES:
            self._budget.change(self, size, self.inflated)

    def shrink(self, size: int) -> None:
        """Hold ``size`` bytes from now on, which are no more than before."""
        if self.size and not self.released:
            self._budget.change(self, size if size > SMALL_BYTES else 0, self.inflated)

    def inflate(self, size: int) -> None:
        """Hold ``size`` bytes of the inflated body.

        Raises:
            QueueFull, RequestEnded: as :meth:`BodyBudget.change`.
        """
        self._budget.change(self, self.size, size)

    def release(self) -> None:
        """Give all of it back."""
        if self.size or self.inflated or not self.released:
            self._budget.release(self)
