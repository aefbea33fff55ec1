"""Photographs are decoded here, beside the slots, so that small images do not wait for them.

Decoding a 12-megapixel photograph takes as long as dozens of runs of a small network, and a file
of 38 bytes may ask for a second. What costs much more than other images that come waits in a
queue of its own, for threads of a lower priority: it may use every core that is idle otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.decode_memory import EXPENSIVE as EXPENSIVE_QUEUE
from isoserve.service.batching.decode_memory import DecodeMemory
from isoserve.service.batching.decode_queue import DecodeQueue

if TYPE_CHECKING:
    from isoserve.service.batching.job import Job

EXPENSIVE = 4.0
"""Times the cheapest image of late: what costs more goes to the queue of lower priority."""

LATE_SECONDS = 1.0
"""How long an image is one of late."""

ORDINARY_MEMORY = 48 * 2**20
"""Bytes: an image that takes more to decode is not an ordinary one."""

LOWER_PRIORITY = 10
"""A tenth of the processor's time, where others need all of it."""


class DecodePool:
    """Two queues and their threads.

    Args:
        threads: how many decode at a time, for each queue.
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
        def work(job: Job) -> None:
            if decode(job):
                forward(job)

        memory = DecodeMemory()
        self._ordinary = DecodeQueue("decode", threads, limits, work, memory=memory)
        self._expensive = DecodeQueue(
            "decode-large",
            threads,
            limits,
            work,
            memory=memory,
            kind=EXPENSIVE_QUEUE,
            nice=LOWER_PRIORITY,
        )
        self._cheapest = self._cheapest_before = float("inf")
        self._turn = 0.0

    @property
    def waiting(self) -> int:
        """Images that no thread has taken yet."""
        return self._ordinary.waiting + self._expensive.waiting

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs of one request, all or none; one caller at a time.

        Raises:
            QueueFull: too many images wait already, or would wait too long.
        """
        bound = EXPENSIVE * self._cheapest_of_late(min(job.cost.seconds for job in jobs))
        parts: dict[DecodeQueue, list[Job]] = {self._ordinary: [], self._expensive: []}
        for job in jobs:
            cost = job.cost
            ordinary = cost.seconds <= bound and cost.memory <= ORDINARY_MEMORY
            parts[self._ordinary if ordinary else self._expensive].append(job)
        for queue, part in parts.items():
            if part:
                queue.admit(part)
        for queue, part in parts.items():
            if part:
                queue.put(part)

    def close(self) -> None:
        """Finish what waits; blocks until all of it has been forwarded or answered."""
        self._ordinary.close()
        self._expensive.close()

    def _cheapest_of_late(self, cost: float) -> float:
        now = perf_counter()
        if now >= self._turn:
            late = now < self._turn + LATE_SECONDS
            self._cheapest_before = self._cheapest if late else float("inf")
            self._cheapest = float("inf")
            self._turn = now + LATE_SECONDS
        self._cheapest = min(self._cheapest, cost)
        return min(self._cheapest, self._cheapest_before)
