"""Workers that score units side by side: processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from isoserve.models.errors import InputError
from isoserve.score.counts import Counts
from isoserve.score.units import Unit
from isoserve.score.worker import Job, Worker


class UnitFailed(Exception):
    """A unit that was not scored; the message says why."""


Outcome = tuple[Unit, Counts | UnitFailed]


class Pool(Protocol):
    """Where workers are, whatever starts them."""

    @property
    def idle(self) -> int:
        """Workers that wait for a unit."""

    def submit(self, unit: Unit) -> None:
        """Give the unit to an idle worker."""

    def outcomes(self) -> Iterator[Outcome]:
        """Wait until a unit has ended; what has ended by then."""

    def close(self) -> None:
        """End the workers."""


class ProcessPool:
    """One process a worker, each with a session of its own; one that dies is replaced.

    Args:
        gpus: each worker sees one of so many; 0 for none.
    """

    def __init__(self, job: Job, workers: int, gpus: int = 0) -> None:
        self._job = job
        self._gpus = gpus
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start(index) for index in range(workers)]

    @property
    def idle(self) -> int:
        return sum(worker.unit is None for worker in self._workers)

    def submit(self, unit: Unit) -> None:
        worker = next(worker for worker in self._workers if worker.unit is None)
        worker.unit = unit
        with contextlib.suppress(OSError):  # it has just died: its end is met in outcomes
            worker.pipe.send(unit)

    def outcomes(self) -> Iterator[Outcome]:
        busy = [worker for worker in self._workers if worker.unit is not None]
        ready = set(wait([x for w in busy for x in (w.pipe, w.process.sentinel)]))
        for worker in busy:
            if worker.pipe in ready or worker.process.sentinel in ready:
                yield self._outcome(worker)

    def _outcome(self, worker: _WorkerProcess) -> Outcome:
        unit = worker.unit
        assert unit is not None
        worker.unit = None
        try:
            answer = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode or 0
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._workers[worker.index] = self._start(worker.index)
            return unit, UnitFailed(f"the worker's process died ({cause})")
        if isinstance(answer, InputError):
            raise answer  # the model or an option: no other unit would fare better
        return unit, answer

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    def _start(self, index: int) -> _WorkerProcess:
        here, there = self._context.Pipe()
        gpu = str(index % self._gpus) if self._gpus else None
        process = self._context.Process(
            target=_work, args=(there, self._job, gpu), name=f"score-{index}", daemon=True
        )
        process.start()
        there.close()
        return _WorkerProcess(index, process, here)


class _WorkerProcess:
    def __init__(self, index: int, process: Any, pipe: Connection) -> None:
        self.index = index
        self.process = process
        self.pipe = pipe
        self.unit: Unit | None = None


def _work(pipe: Connection, job: Job, gpu: str | None) -> None:
    """The process of a worker: it ends with its driver, whose end of the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    os.environ["OMP_NUM_THREADS"] = "1"
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    worker: Worker | None = None
    while True:
        try:
            unit = pipe.recv()
        except EOFError:
            return
        try:
            worker = worker or Worker(job)
            pipe.send(worker.score(unit))
        except InputError as error:
            pipe.send(error)
        except Exception as error:  # whatever a source brings about, the others are scored
            pipe.send(UnitFailed(f"{type(error).__name__}: {error}"))
