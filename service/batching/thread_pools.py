"""Work that is not decoding or inference, off the event loop and in threads of its own kind.

Bodies that are large or compressed take long to parse. In asyncio's common threads a few of them
would hold up all that waits there, such as another client's batch or the load of a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from isoserve.service.batching.admission import Admission, QueueLimits

PARSING_THREADS = 2

LOADS = QueueLimits(images=16, seconds=60.0, max_batch=1)
"""Calls to load or unload that may wait for each other."""

Result = TypeVar("Result")


class BoundedPool:
    """A few threads for one kind of work; what waits for them is bounded in seconds.

    Args:
        threads: how many work at a time.
        limits: what may wait; its images are pieces of work.
    """

    def __init__(self, name: str, threads: int, limits: QueueLimits) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._admission = Admission(limits, threads)
        self._waiting = 0

    async def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, from one of the threads; called on the event loop.

        Raises:
            QueueFull: too much waits already, or would wait too long.
        """
        self._admission.admit(self._waiting, 1)
        self._waiting += 1
        started = 0.0

        def timed() -> Result:
            nonlocal started
            started = perf_counter()
            return work()

        loop = asyncio.get_running_loop()
        running = self._executor.submit(timed)
        # Not when the request is given up, which ends no thread's work.
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done, started))
        try:
            return await asyncio.wrap_future(running)
        finally:
            del running  # an error holds this frame, and it would hold the error

    def close(self) -> None:
        """Blocks until what runs has ended; what waits is not begun."""
        self._executor.shutdown(cancel_futures=True)

    def _done(self, started: float) -> None:
        self._waiting -= 1
        if started:
            self._admission.served(1, perf_counter() - started)


class ThreadPools:
    """The pools of a server, so that no kind of work waits for another.

    Attributes:
        parsing: large bodies, a batch's form among them.
        inflating: compressed bodies, one at a time, since a few bytes may be a long work.
        loading: loads and unloads by request.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self.parsing = BoundedPool("parse", PARSING_THREADS, limits)
        self.inflating = BoundedPool("inflate", 1, limits)
        self.loading = BoundedPool("load", 1, LOADS)

    def close(self) -> None:
        """Blocks until what runs has ended."""
        for pool in (self.parsing, self.inflating, self.loading):
            pool.close()
