"""Several serving processes on one socket, and the one that keeps them alive; none outlives it.

They share the listening socket, so a connection that no one has taken yet outlives a worker that
is killed. Prometheus' client adds their numbers up through files in a folder of their own.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from isoserve.service.http.acceptor import ConnectionTable, WorkerSlot
from isoserve.service.observability.log_writer import configure_logging
from isoserve.service.observability.metric_files import empty, use_slot
from isoserve.service.observability.metrics import MULTIPROCESS_FOLDER
from isoserve.service.repository.load_checks import Key
from isoserve.service.repository.load_request import LoadReply
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.server import STOP_SIGNALS, handle_hangup, serve_until_stopped
from isoserve.service.settings import Settings

log = logging.getLogger("isoserve.workers")

SHORT_LIFE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 10.0
"""A worker that dies young comes back after a pause that doubles, up to this."""

LOOK_SECONDS = 1.0
STUCK_SECONDS = 10.0
"""A worker whose event loop has not turned for so long is replaced."""

STOP_SLACK_SECONDS = 10.0
"""Beyond the grace: to finish a batch and a load. A worker that is still there then is killed."""


def serve_with_workers(
    settings: Settings, listener: socket.socket, replies: Mapping[Key, LoadReply]
) -> None:
    """Keep ``settings.workers`` processes serving until SIGTERM or SIGINT.

    Args:
        replies: what came of files that have been tried, so that not every worker does it again.
    """
    with _metrics_folder() as folder:
        supervisor = _Supervisor(settings, listener, folder, replies)
        for number in STOP_SIGNALS:
            signal.signal(number, supervisor.stop)
        handle_hangup(is_worker=False)
        supervisor.run()


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        folder: Path,
        replies: Mapping[Key, LoadReply],
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._replies = replies
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._connections = ConnectionTable(self._context, settings.workers)
        self._workers: list[_Worker] = [_Worker(index) for index in range(settings.workers)]
        self._woken, self._wake = os.pipe()
        self._stopping = False

    def run(self) -> None:
        while not self._stopping:
            pause = LOOK_SECONDS
            for worker in self._workers:
                if worker.process is None:
                    pause = min(pause, self._start_when_due(worker))
            self._wait(pause)
            for worker in self._workers:
                if worker.process is not None and not worker.process.is_alive():
                    self._bury(worker, worker.process)
                elif worker.process is not None and worker.is_stuck(self._connections):
                    self._end_stuck(worker, worker.process)
        self._end_all()

    def stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A signal's handler: only wakes the loop."""
        self._stopping = True
        os.write(self._wake, b".")

    def _start_when_due(self, worker: _Worker) -> float:
        """Start the worker, or the seconds until it is due."""
        due = worker.not_before - time.monotonic()
        if due > 0:
            return due
        process = self._context.Process(
            target=_work,
            args=(
                *(self._settings, self._listener),
                WorkerSlot(self._connections, worker.index),
                self._replies,
            ),
            name=f"worker-{worker.index}",
        )
        # Ctrl-C reaches the whole terminal: a worker that still imports would end in a trace. It is
        # ended by SIGTERM instead, whichever signal came here. The tracker's start would take the
        # block away, so it comes first.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        worker.process, worker.started = process, time.monotonic()
        log.info("worker %d started as process %d", worker.index, process.pid)
        return LONGEST_PAUSE_SECONDS

    def _bury(self, worker: _Worker, process: SpawnProcess) -> None:
        lived = time.monotonic() - worker.started
        worker.pause = min(2 * worker.pause or 0.5, LONGEST_PAUSE_SECONDS)
        if lived > SHORT_LIFE_SECONDS:
            worker.pause = 0.0
        worker.not_before = time.monotonic() + worker.pause
        log.error(
            "worker %d, process %d, ended with %s after %.1f s; it returns in %.1f s",
            *(worker.index, process.pid, process.exitcode, lived, worker.pause),
        )
        self._forget(worker, process)
        self._connections.leave(worker.index)
        worker.process = None

    def _end_stuck(self, worker: _Worker, process: SpawnProcess) -> None:
        """A worker that is stopped, or spins, would keep its clients without an answer."""
        log.error(
            "worker %d, process %d, has not moved for %g s and is killed",
            *(worker.index, process.pid, STUCK_SECONDS),
        )
        process.kill()

    def _forget(self, worker: _Worker, process: SpawnProcess) -> None:
        # Its gauges leave the sum; its counts stay, since counters never go back.
        mark_process_dead(worker.index, str(self._folder))  # type: ignore[no-untyped-call]
        process.join()
        process.close()

    def _wait(self, seconds: float) -> None:
        alive = [w.process.sentinel for w in self._workers if w.process is not None]
        wait([*alive, self._woken], seconds)

    def _end_all(self) -> None:
        ending = [(each, each.process) for each in self._workers if each.process is not None]
        for _, process in ending:
            process.terminate()
        self._listener.close()
        deadline = time.monotonic() + self._settings.grace_seconds + STOP_SLACK_SECONDS
        for worker, process in ending:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                log.error("process %d did not stop in time and is killed", process.pid)
                process.kill()
            self._forget(worker, process)


class _Worker:
    def __init__(self, index: int) -> None:
        self.index = index
        self.process: SpawnProcess | None = None
        self.started = self.not_before = self.pause = 0.0
        self._beats = 0
        self._looked_at = 0.0
        self._looks = 0

    def is_stuck(self, table: ConnectionTable) -> bool:
        """Whether it has stood still for so many looks; one that does not serve yet may.

        Looks are counted and not seconds, in which this process may have been stopped itself.
        """
        beats, now = table.beats(self.index), time.monotonic()
        if beats != self._beats or beats == 0:
            self._beats, self._looks, self._looked_at = beats, 0, now
        elif now - self._looked_at >= LOOK_SECONDS:
            self._looks, self._looked_at = self._looks + 1, now
        return self._looks >= STUCK_SECONDS / LOOK_SECONDS


def _work(
    settings: Settings,
    listener: socket.socket,
    slot: WorkerSlot,
    replies: Mapping[Key, LoadReply],
) -> None:
    log_writer = configure_logging(settings.log_format, shared=True)
    use_slot(slot.index)
    threading.Thread(target=_outlive_no_supervisor, name="supervisor", daemon=True).start()
    loader = ModelLoader(settings, replies)
    serve_until_stopped(settings, listener, log_writer, slot, loader)


def _outlive_no_supervisor() -> None:
    """Stop as on SIGTERM when the supervisor is gone without having said so, as after SIGKILL.

    A worker left over would hold the port, and nobody would count it or bring it back.
    """
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    supervisor.join()
    log.error("process %d stops: its supervisor is gone", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _metrics_folder() -> Iterator[Path]:
    """An empty folder, named in the environment that the workers inherit."""
    given = os.environ.get(MULTIPROCESS_FOLDER) or None
    folder = Path(given or tempfile.mkdtemp(prefix="isoserve-metrics-"))
    folder.mkdir(parents=True, exist_ok=True)
    empty(folder)
    os.environ[MULTIPROCESS_FOLDER] = str(folder)
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)
