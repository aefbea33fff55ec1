"""Memory that is free but not given back."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Give the memory of versions that have left back to the system.

    glibc keeps what was freed in the arena of the thread that had it; after many swaps that is
    hundreds of megabytes.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
