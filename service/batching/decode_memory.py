"""The memory that decoding may take, over both queues together.

What ordinary images need is theirs at any time; a large image takes what is left, and one that
needs more than that is decoded while no other large one is.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from time import perf_counter

LIMIT = 134_000_000
"""Bytes, unless one image alone needs more and no other of its queue is decoded."""

ORDINARY_SHARE = 16_000_000
"""Bytes that images of the ordinary queue may take beside whatever else is decoded."""

PATIENCE_SECONDS = 0.5
"""So long an image waits for memory, then no other takes what would go to it."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names in mallopt(3)."""

_LARGE_BLOCK, _KEPT_FREE = 12 << 20, 16 << 20
"""Bytes: a block that goes back to the system when it is freed, and what an arena keeps. What most
photographs take is less: to be given new pages each time costs some 3 in 100 of decoding them."""

ORDINARY, EXPENSIVE = 0, 1
"""The queues."""


class DecodeMemory:
    """What each queue holds; asked with :attr:`changed` held.

    Attributes:
        changed: the queues' lock, notified when there is more to be done or to be had.
    """

    def __init__(self) -> None:
        _return_large_blocks()
        self.changed = threading.Condition()
        self._held = [0, 0]
        self._waits_since: list[float | None] = [None, None]

    def take(self, queue: int, size: int) -> bool:
        """Let an image of this queue have so many bytes, if there are."""
        if not self._fits(queue, size):
            if self._waits_since[queue] is None:
                self._waits_since[queue] = perf_counter()
            return False
        self._waits_since[queue] = None
        self._held[queue] += size
        return True

    def release(self, queue: int, size: int) -> None:
        """Take them back."""
        self._held[queue] -= size
        self.changed.notify_all()

    def _fits(self, queue: int, size: int) -> bool:
        ordinary, expensive = self._held
        if queue == ORDINARY and ordinary + size <= ORDINARY_SHARE:
            return True
        other_since = self._waits_since[1 - queue]
        if other_since is not None and perf_counter() > other_since + PATIENCE_SECONDS:
            return False
        if ordinary + expensive + size <= LIMIT or not ordinary + expensive:
            return True
        return queue == EXPENSIVE and not expensive and ordinary <= ORDINARY_SHARE


def _return_large_blocks() -> None:
    """Have what a large image took given back when it is decoded.

    Left alone, glibc learns from each large block that is freed to keep the next, up to 64 MB in
    each thread's arena.
    """
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if set_option is not None:
            set_option(_MMAP_THRESHOLD, _LARGE_BLOCK)
            set_option(_TRIM_THRESHOLD, _KEPT_FREE)
