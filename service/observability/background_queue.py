"""A bounded queue and the thread that empties it, for work that nobody may wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundQueue(Generic[T]):
    """Takes things from any thread at once and hands them on in a thread of its own.

    Args:
        name: the thread's.
        consume: is given what has gathered, oldest first; may be slow; must not raise.
        limit: the most that may wait.
        gather_seconds: how long the thread lets things gather, so that it wakes seldom.
    """

    def __init__(
        self,
        name: str,
        consume: Callable[[list[T]], None],
        limit: int,
        gather_seconds: float = 0.0,
    ) -> None:
        self._consume = consume
        self._limit = limit
        self._gather_seconds = gather_seconds
        self._waiting: deque[T] = deque()
        self._filled = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._empty, name=name, daemon=True)
        self._thread.start()

    def offer(self, thing: T) -> bool:
        """Hand it on, unless too much waits already; returns at once."""
        if len(self._waiting) >= self._limit:
            return False
        self._waiting.append(thing)
        if not self._filled.is_set():
            self._filled.set()
        return True

    def put_urgent(self, thing: T, spare: int) -> bool:
        """The same without letting more gather, and up to ``spare`` past the limit."""
        if len(self._waiting) >= self._limit + spare:
            return False
        self._waiting.append(thing)
        self._hurry.set()
        self._filled.set()
        return True

    def close(self, seconds: float) -> None:
        """Hand on what waits and end the thread, unless that takes longer than ``seconds``."""
        self._closing = True
        self._hurry.set()
        self._filled.set()
        self._thread.join(seconds)

    def _empty(self) -> None:
        while not self._closing:
            self._filled.wait()
            if self._gather_seconds:
                self._hurry.wait(self._gather_seconds)
            # Cleared first: what is offered from here on is taken below, or sets it again.
            self._filled.clear()
            self._hurry.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            self._consume([self._waiting.popleft() for _ in range(len(self._waiting))])
