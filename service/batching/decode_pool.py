"""A lane of its own for photographs, so that the small images beside them do not wait.

Decoding a 12-megapixel photograph takes as long as dozens of runs of a small network. In a slot it
would hold up its whole batch; here a few threads decode such images and hand the pixels on to the
queue of the network. The lane's backlog is bounded as that queue is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from isoserve.service.batching.admission import Admission, QueueLimits

if TYPE_CHECKING:
    from isoserve.service.batching.job import Job

LARGE_PIXELS = 250_000
LARGE_BYTES = 256 * 1024
"""From either on, an image is decoded here: about the work of one run of a small network."""


def is_large(body: bytes, pixels: int) -> bool:
    """Whether an encoded image of so many pixels belongs here."""
    return pixels >= LARGE_PIXELS or len(body) >= LARGE_BYTES


class DecodePool:
    """The lane's threads.

    Args:
        threads: how many decode at a time.
        limits: what may wait for them.
        decode: turns a job's source into pixels, or answers the job itself and says False.
        forward: takes a decoded job to the network's queue.
    """

    def __init__(
        self,
        threads: int,
        limits: QueueLimits,
        decode: Callable[[Job], bool],
        forward: Callable[[Job], None],
    ) -> None:
        self._admission = Admission(limits, threads)
        self._decode = decode
        self._forward = forward
        self._lock = threading.Lock()
        self._waiting = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"large-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that no thread has taken yet."""
        return self._waiting

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none.

        Raises:
            QueueFull: too many images wait already, or would wait too long.
        """
        with self._lock:
            self._admission.admit(self._waiting, len(jobs))
            self._waiting += len(jobs)
        for job in jobs:
            self._jobs.put(job)

    def close(self) -> None:
        """Finish what waits; blocks until all of it has been forwarded or answered."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._waiting -= 1
            if job.cancelled:
                continue
            started = perf_counter()
            if self._decode(job):
                self._forward(job)
            with self._lock:
                self._admission.served(1, perf_counter() - started)
            del job  # or its model would live until the next large image
