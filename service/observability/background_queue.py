"""A bounded queue and the thread that empties it, for work that nobody may wait for."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may be held, and in which portions it is consumed.

    Args:
        count: the most things that may wait.
        size: the most that their sizes may add up to.
        until_consumed: whether a thing counts until it has been consumed, as it has to where that
            may take for ever; else it stops counting when its portion is taken.
        portion: the most things consumed at once.
        gather_seconds: how long the thread lets things gather, so that it wakes seldom.
        idle_seconds: after so long without a thing an empty portion is consumed; None is never.
    """

    count: int
    size: float = math.inf
    until_consumed: bool = False
    portion: int = sys.maxsize
    gather_seconds: float = 0.0
    idle_seconds: float | None = None


class BackgroundQueue(Generic[T]):
    """Takes things from any thread at once and hands them on in a thread of its own.

    Args:
        name: the thread's.
        consume: is given what has gathered, oldest first; may be slow; must not raise.
        size_of: what a thing adds to the size that is held.

    Attributes:
        dropped: things that were turned away.
        closing: set when the queue is being closed; a consumer that tries again gives up then.
    """

    def __init__(
        self,
        name: str,
        consume: Callable[[list[T]], None],
        bounds: QueueBounds,
        size_of: Callable[[T], int] = lambda _: 0,
    ) -> None:
        self.dropped = 0
        self.closing = threading.Event()
        self._consume = consume
        self._bounds = bounds
        self._size_of = size_of
        self._waiting: deque[T] = deque()
        self._held = 0
        self._size = 0
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._empty, name=name, daemon=True)
        self._thread.start()

    def offer(self, thing: T, spare: int = 0) -> bool:
        """Hand it on, unless too much is held already; returns at once.

        Args:
            spare: how many past the bound may be held with it.
        """
        size = self._size_of(thing)
        with self._lock:
            if self._held >= self._bounds.count + spare or self._size + size > self._bounds.size:
                self.dropped += 1
                return False
            self._held += 1
            self._size += size
            self._waiting.append(thing)
        if not self._filled.is_set():
            self._filled.set()
        return True

    def put_urgent(self, thing: T, spare: int) -> bool:
        """The same without letting more gather."""
        taken = self.offer(thing, spare)
        self._hurry.set()
        return taken

    def close(self, seconds: float, drain: bool = True) -> None:
        """End the thread, unless that takes longer than ``seconds``.

        Args:
            drain: whether what waits is handed on first, or dropped.
        """
        if not drain:
            with self._lock:
                self._waiting.clear()
        self.closing.set()
        self._hurry.set()
        self._filled.set()
        self._thread.join(seconds)

    def _empty(self) -> None:
        while not self.closing.is_set():
            if not self._filled.wait(self._bounds.idle_seconds):
                self._consume([])
                continue
            if self._bounds.gather_seconds:
                self._hurry.wait(self._bounds.gather_seconds)
            # Cleared first: what is offered from here on is taken below, or sets it again.
            self._filled.clear()
            self._hurry.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while portion := self._take():
            self._consume(portion)
            if self._bounds.until_consumed:
                with self._lock:
                    self._release(portion)

    def _take(self) -> list[T]:
        with self._lock:
            count = min(len(self._waiting), self._bounds.portion)
            portion = [self._waiting.popleft() for _ in range(count)]
            if not self._bounds.until_consumed:
                self._release(portion)
            return portion

    def _release(self, portion: list[T]) -> None:
        self._held -= len(portion)
        self._size -= sum(map(self._size_of, portion))
