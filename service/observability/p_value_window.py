"""Counts of p-values over the last hour, of one process or of several that serve together."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoserve.service.inference.outputs import Floats
from isoserve.service.observability.metric_files import reserve

FINE_BUCKETS = 1000
"""Equal steps of the p-value that the window counts; every edge of ``drift.P_VALUE_BUCKETS``, and
every alpha that the page's slider stops at, is one of theirs."""

STEP_SECONDS = 10
LONGEST_WINDOW = 3600

SUFFIX = ".window"
"""Of the files that several processes count in."""

_STEP, _REJECTED, _COUNTS = 0, 1, 2
_SHAPE = (LONGEST_WINDOW // STEP_SECONDS, _COUNTS + FINE_BUCKETS)
_EDGES = (np.arange(1, FINE_BUCKETS) / FINE_BUCKETS).astype(np.float32)

Counts = NDArray[np.int64]


class PValueWindow:
    """Counts of one version's p-values over the last hour, in steps of ten seconds.

    The size is fixed: a row of counts a step, used again an hour later. Slots add to it from their
    own threads. Where several processes serve, each counts in a file of its own in ``folder`` and
    reads those of all; a worker that died has left its counts there.

    Args:
        key: the version, as a part of a file name; windows of one key belong together.
        owner: whose file it is, so that who comes after goes on in it; a new one if empty.
    """

    def __init__(
        self,
        key: str = "",
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        owner: str = "",
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pattern = f"{key}-*{SUFFIX}"
        self._folder = folder
        self._table = np.zeros(_SHAPE, dtype=np.int32)
        self._table[:, _STEP] = -1
        self._path: Path | None = None
        if folder is not None:
            self._remove_stale(folder)
            self._open(folder / f"{key}-{owner or uuid.uuid4().hex}{SUFFIX}")

    @property
    def of_all_workers(self) -> bool:
        """Whether :meth:`last` counts what other processes served too."""
        return self._folder is not None

    def add(self, p_values: Floats, rejected: int) -> None:
        """Count a batch; a p-value that is not a number counts as the lowest.

        Args:
            p_values: float32 [N], in (0, 1]; one equal to an edge belongs below it.
            rejected: how many of them are out-of-distribution at the operator's alpha.
        """
        fine = _EDGES.searchsorted(p_values).tolist()
        values = p_values.tolist()
        step = self._step()
        with self._lock:
            row = self._table[step % len(self._table)]
            if row[_STEP] != step:
                row[_STEP] = -1  # other processes must not take the old counts for new ones
                row[_REJECTED:] = 0
                row[_STEP] = step
            for bucket, value in zip(fine, values, strict=True):
                row[_COUNTS + (0 if math.isnan(value) else bucket)] += 1
            row[_REJECTED] += rejected

    def last(self, seconds: float) -> tuple[Counts, int]:
        """int64 [FINE_BUCKETS] and the number rejected, over the last ``seconds``.

        The step in progress is included, so the window is up to one step shorter.
        """
        after = self._step() - math.ceil(seconds / STEP_SECONDS)
        if self._folder is None:
            with self._lock:
                total = _sum_after(self._table, after)
        else:
            tables = (_read(path) for path in self._folder.glob(self._pattern))
            total = sum((_sum_after(t, after) for t in tables), np.zeros(_SHAPE[1], dtype=np.int64))
        return total[_COUNTS:], int(total[_REJECTED])

    def close(self) -> None:
        """Give the file back; what is still added is not counted by the others."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _open(self, path: Path) -> None:
        """Count in the file; where there is no space for it in memory, and that is logged."""
        is_new = not path.exists()
        if reserve(path, self._table.nbytes):
            self._table = np.memmap(path, dtype=np.int32, mode="r+", shape=_SHAPE)
            self._path = path
            if is_new:
                self._table[:, _STEP] = -1
        else:
            self._folder = None

    def _step(self) -> int:
        return int(self._clock()) // STEP_SECONDS

    def _remove_stale(self, folder: Path) -> None:
        """Files of ended processes, once nothing in them can be asked for any more."""
        oldest = self._step() - _SHAPE[0]
        for path in folder.glob(f"*{SUFFIX}"):
            newest = int(_read(path)[:, _STEP].max())
            if newest not in (-1, 0) and newest < oldest:
                path.unlink(missing_ok=True)


def _read(path: Path) -> NDArray[np.int32]:
    try:
        table = np.fromfile(path, dtype=np.int32)
    except FileNotFoundError:
        table = np.zeros(0, dtype=np.int32)
    return table.reshape(_SHAPE) if table.size == math.prod(_SHAPE) else np.zeros(_SHAPE, np.int32)


def _sum_after(table: NDArray[np.int32], step: int) -> Counts:
    total: Counts = table[table[:, _STEP] > step].sum(axis=0, dtype=np.int64)
    return total
