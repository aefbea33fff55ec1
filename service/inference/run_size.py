"""How many images one run of a network takes at once.

A run holds the activations of all its images. Where these outgrow the processor's caches, more
images at once are no faster, and memory grows by as much again for each slot and each model: 64
photographs at 224 x 224 take a small convolutional network 0.9 GB.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

RUN_BYTES = 100_000_000
"""Of memory that a run may take, beside the weights."""

_STATM = Path("/proc/self/statm")


def largest_run(run: Callable[[int], None], most: int) -> int:
    """The largest number of images, doubled from one on, whose run stays within RUN_BYTES.

    To be asked while nothing else in the process takes memory. Where the system does not tell how
    much that is, it is all of them.

    Args:
        run: of so many images.
        most: the largest batch there will be.
    """
    before = _resident_bytes()
    size = 1
    run(size)
    while size < most and 2 * (_resident_bytes() - before) <= RUN_BYTES:
        size = min(2 * size, most)
        run(size)
    return size


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
