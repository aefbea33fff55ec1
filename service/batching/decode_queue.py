"""Threads that decode images in the order of what they cost, and what may wait for them.

An image's turn comes by a virtual deadline: when it came, and some times what it and the images of
its request before it cost. So a cheap image passes an expensive one that has not waited long yet,
the images of one request do not all stand before another's, and nothing waits for ever.
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING

from isoserve.models.text import pluralize
from isoserve.service.batching.admission import (
    CALM_SECONDS,
    COST_SMOOTHING,
    SHORT_QUEUE,
    QueueLimits,
)
from isoserve.service.batching.body_budget import SMALL_BYTES
from isoserve.service.batching.decode_memory import LIMIT, ORDINARY, DecodeMemory
from isoserve.service.batching.errors import QueueFull

if TYPE_CHECKING:
    from isoserve.service.batching.job import Job

STRETCH = 4.0
"""An image may be passed by those that come within so many times its cost."""

SHORT_SHARE = 1 / 3
"""Of the seconds that images may wait: so long the queue is while more comes than is decoded."""

LONG_QUEUE = 2 * SHORT_QUEUE
"""Images a thread that may wait however long each takes, SHORT_QUEUE of them under overload: a
program that sends photographs over a few connections, each after the last one's answer, is never
refused. Not so a file of less than SMALL_BYTES, which costs its sender nothing."""

LONG_SECONDS = 5.0
"""Of a thread's work, the most of what may so wait."""

SLOWEST, FASTEST = 8.0, 1 / 8
"""How far this machine may be from the one that costs were measured on, with all that it does."""


class DecodeQueue:
    """A queue and its threads.

    Args:
        limits: what may wait; its seconds are those an image may be expected to wait.
        memory: what decoding may hold, and the lock of all queues that share it.
        kind: which of these queues this is.
        nice: by how much the threads' priority is lower than the process's.
        work: decodes a job and hands it on; must not raise.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        limits: QueueLimits,
        work: Callable[[Job], None],
        *,
        memory: DecodeMemory,
        kind: int = ORDINARY,
        nice: int = 0,
    ) -> None:
        self._limits = limits
        self._work = work
        self._memory = memory
        self._kind = kind
        self._nice = nice
        self._changed = memory.changed
        self._heap: list[tuple[float, int, Job]] = []
        self._numbers = count()
        self._running = 0
        self._pace = 1.0
        self._strict_until = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images that no thread has taken yet."""
        return len(self._heap)

    def admit(self, jobs: Sequence[Job]) -> None:
        """Refuse the jobs where they may not wait; they are not queued yet.

        Raises:
            QueueFull: 429, too many images wait already, or would wait too long.
        """
        with self._changed:
            self._drop_cancelled()
            wait = self._expected_wait(jobs[0])
            most, least = self._bounds(jobs[0])
            now = perf_counter()
            limit = ""
            if len(self._heap) + len(jobs) > self._limits.images:
                limit = "images"
            elif wait > most:
                limit = "seconds"
            elif wait > least and now < self._strict_until:
                limit = "overload"
            if limit:
                self._strict_until = now + CALM_SECONDS
                waiting = pluralize(len(self._heap), "image")
                raise QueueFull(limit, f"{waiting} waiting to be decoded already", wait)

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, which are one request's."""
        with self._changed:
            now = perf_counter()
            ahead, models = self._own_backlog(jobs[0])
            if models > 1 and not ahead:  # it has had nothing yet of what the others wait for
                now = min(now, self._heap[0][0] - STRETCH * jobs[0].cost.seconds)
            for job in jobs:
                ahead += job.cost.seconds
                heapq.heappush(self._heap, (now + STRETCH * ahead, next(self._numbers), job))
            self._changed.notify_all()

    def close(self) -> None:
        """Finish what waits; blocks until all of it has been handed on or answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _drop_cancelled(self) -> None:
        """Clients that went, after the time they had for it, delay no one; with the lock held."""
        kept = [entry for entry in self._heap if not entry[2].cancelled]
        if len(kept) < len(self._heap):
            self._heap = kept
            heapq.heapify(self._heap)

    def _bounds(self, job: Job) -> tuple[float, float]:
        """Seconds that it may be expected to wait, and those while others are refused."""
        most, least = self._limits.seconds, SHORT_SHARE * self._limits.seconds
        if len(job.source) < SMALL_BYTES:
            return most, least
        few, fewer = (
            self._pace * min(images * job.cost.seconds, LONG_SECONDS)
            for images in (LONG_QUEUE, SHORT_QUEUE)
        )
        return max(most, few), max(least, fewer)

    def _expected_wait(self, job: Job) -> float:
        """Seconds until an image that comes now has its turn, with the lock held."""
        if len(self._heap) < len(self._threads) - self._running:
            return 0.0  # those that wait are just being taken
        own, models = self._own_backlog(job)
        if models > 1:
            return own * models * self._pace / len(self._threads)
        deadline = perf_counter() + STRETCH * job.cost.seconds
        return self._pace * sum(self._turn(each) for due, _, each in self._heap if due <= deadline)

    def _turn(self, job: Job) -> float:
        """What it delays those behind it: it takes a thread, and of the memory its part."""
        part = min(job.cost.memory / LIMIT, 1.0)
        return job.cost.seconds * max(part, 1 / len(self._threads))

    def _own_backlog(self, job: Job) -> tuple[float, int]:
        """What its model's waiting images cost, where other models' wait too, and how many models.

        Each of several models has its share: the images of one do not all stand before another's.
        """
        name = job.served.model.name
        names = {each.served.model.name for _, _, each in self._heap} | {name}
        if len(names) == 1:
            return 0.0, 1
        own = (each.cost.seconds for _, _, each in self._heap if each.served.model.name == name)
        return sum(own), len(names)

    def _serve(self) -> None:
        if self._nice and sys.platform == "linux":  # where a thread has a priority of its own
            own = threading.get_native_id()
            lower = os.getpriority(os.PRIO_PROCESS, own) + self._nice
            os.setpriority(os.PRIO_PROCESS, own, lower)
        while self._serve_one():
            pass

    def _serve_one(self) -> bool:
        """One job; its own frame, so that an idle thread holds neither a job nor its model."""
        job = self._take()
        if job is None:
            return False
        cost = job.cost
        started = perf_counter()
        try:
            if not job.cancelled:
                self._work(job)
                self._learn(cost.seconds, perf_counter() - started)
        finally:
            with self._changed:
                self._running -= 1
                self._memory.release(self._kind, cost.memory)
        return True

    def _take(self) -> Job | None:
        """The next job that there is memory for; None once the queue is closed and empty."""
        with self._changed:
            while True:
                if self._heap and self._memory.take(self._kind, self._heap[0][2].cost.memory):
                    job = heapq.heappop(self._heap)[2]
                    self._running += 1
                    return job
                if self._closed and not self._heap:
                    return None
                self._changed.wait()

    def _learn(self, expected: float, taken: float) -> None:
        """How this machine's seconds compare with those that costs are given in."""
        ratio = min(max(taken / expected, FASTEST), SLOWEST)
        with self._changed:
            self._pace += COST_SMOOTHING * (ratio - self._pace)
