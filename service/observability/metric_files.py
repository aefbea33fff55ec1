"""The files that several workers count in: by slot, their space reserved before it is mapped.

Prometheus' client names a file by its process and maps it sparse. Each worker that died left its
files behind, and on a full file system the first touch of a page ends the process by SIGBUS. Here
the worker that returns to a slot goes on in its files, and what has no space is not shown.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger("isoserve.metrics")

FIRST_BYTES = 1 << 16
RETRY_SECONDS = 10.0
MARGIN = 64
"""Bytes of a value in a file beside its key, and more."""

OF_FILES = ("*.db", "*.window")

_slot = ""


def use_slot(index: int) -> None:
    """Count in the files of this worker's slot; to be called before any metric is made."""
    global _slot
    _slot = str(index)
    values.MmapedDict = MetricFile  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: _slot)  # type: ignore[no-untyped-call]


def slot_name() -> str:
    """The slot whose files are this process' own; empty where it has none."""
    return _slot


def empty(folder: Path) -> None:
    """Remove what a former server counted: it is no count of this one's."""
    for pattern in OF_FILES:
        for old in folder.glob(pattern):
            old.unlink(missing_ok=True)


def reserve(path: Path, size: int) -> bool:
    """Make the file, or let it grow, with all its blocks; False, and logged, without any left."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _say(path, error)
        return False
    try:
        had = os.fstat(descriptor).st_size
        os.posix_fallocate(descriptor, 0, max(had, size))
    except OSError as error:
        os.ftruncate(descriptor, had)  # what was reserved so far goes back
        if had == 0:
            path.unlink(missing_ok=True)
        _say(path, error)
        return False
    finally:
        os.close(descriptor)
    return True


def _say(path: Path, error: OSError) -> None:
    log.error("not all metrics are kept: '%s' cannot grow: %s", path, error.strerror)


class MetricFile(MmapedDict):
    """Values in a mapped file; those that it has no room for are kept here, and not shown.

    Room is looked for again now and then.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._path = Path(filename)
        self._homeless: dict[str, tuple[float, float]] = {}
        self._try_again = 0.0
        self._is_open = reserve(self._path, FIRST_BYTES)
        if self._is_open:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        else:
            self._positions: dict[str, int] = {}
            self._f = None  # type: ignore[assignment]

    def read_value(self, key: str) -> tuple[float, float]:
        """Value and time stamp; of a new key zero."""
        if self._has_room(key):
            found: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
            return found
        return self._homeless.get(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        """Set the value."""
        if self._has_room(key):
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
            self._homeless.pop(key, None)
        else:
            self._homeless[key] = (value, timestamp)

    def _has_room(self, key: str) -> bool:
        if key in self._positions:
            return True
        if time.monotonic() < self._try_again:
            return False
        if self._make_room(len(key.encode()) + MARGIN):
            return True
        self._try_again = time.monotonic() + RETRY_SECONDS
        return False

    def _make_room(self, size: int) -> bool:
        if not self._is_open:
            if not reserve(self._path, FIRST_BYTES):
                return False
            super().__init__(str(self._path))  # type: ignore[no-untyped-call]
            self._is_open = True
        wanted = self._capacity
        while self._used + size > wanted:
            wanted *= 2
        if wanted == self._capacity:
            return True
        if not reserve(self._path, wanted):
            return False
        self._m = mmap.mmap(self._f.fileno(), wanted)
        self._capacity = wanted
        return True
