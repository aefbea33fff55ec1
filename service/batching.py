"""Micro-batches of what is waiting: a bounded queue in front of a few inference threads.

Nothing ever waits for company. A free slot takes what is there (an equal share with the other idle
slots, at most ``max_batch``), decodes it, runs the network once, makes each image's answer, and
hops back to the event loop once for the whole batch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from models.card import InputSpec
from service.admission import Admission, QueueLimits, Refused
from service.engine import Pixels
from service.images import ImageLimits, InvalidImage, decode
from service.job import Job
from service.large_images import LargeImages
from service.metrics import Metrics
from service.problems import Problem
from service.versions import Served

if TYPE_CHECKING:
    from service.review.keeper import Keeper

log = logging.getLogger("isoserve.batching")

Settled = tuple[Job, Any]
"""A job and its answer, its Problem or its InvalidImage."""


class MicroBatcher:
    """The queue and its slots; made and closed on the event loop it answers to."""

    def __init__(
        self, slots: int, limits: QueueLimits, image_limits: ImageLimits, metrics: Metrics
    ) -> None:
        self.keeper: Keeper | None = None
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._admission = Admission(limits, slots)
        self._image_limits = image_limits
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: dict[Served, deque[Job]] = {}
        self._depth = 0
        self._idle: list[int] = []
        self._free = 0
        self._let_in = 0
        self._stopping = self._closed = False
        self._wake = [threading.Lock() for _ in range(slots)]
        for lock in self._wake:
            lock.acquire()
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"slot-{slot}", daemon=True)
            for slot in range(slots)
        ]
        for thread in self._threads:
            thread.start()
        self._large = LargeImages(max(1, slots // 2), limits, self._decode_large, self._forward)
        metrics.watch_queue(lambda: self._depth + self._large.waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none.

        Raises:
            Problem: 429, too many images wait already, or would wait too long.
        """
        large = [job for job in jobs if job.large]
        small = [job for job in jobs if not job.large] if large else jobs
        try:
            with self._lock:
                if self._stopping:
                    raise Problem(503, "stopping", "the server is stopping", retry_after=1)
                if small:
                    self._admission.admit(self._depth, len(small))
                if large:
                    self._large.submit(large)
                woken = self._enqueue(small)
        except Refused as refusal:
            self._metrics.shed.labels(refusal.limit).inc(len(jobs))
            raise
        for slot in woken:
            self._wake[slot].release()

    def refusal(self) -> Refused | None:
        """Why one image more would be refused now, if it would be; on the event loop.

        A loop that has fallen behind reads many requests before it runs any: those let in
        in this round count as waiting, or all of them would be.
        """
        waiting = self._depth + self._let_in
        if self._admission.limit_met(waiting, 1):
            try:
                with self._lock:
                    self._admission.admit(waiting, 1)
            except Refused as refusal:
                self._metrics.shed.labels(refusal.limit).inc()
                return refusal
        return None

    def let_in(self) -> None:
        """A request that is not refused will come with an image later in this round."""
        if not self._let_in:
            self._loop.call_soon(self._next_round)
        self._let_in += 1

    def _next_round(self) -> None:
        self._let_in = 0

    def close(self) -> None:
        """Let the slots finish what waits, then end them; blocks until they have."""
        with self._lock:
            self._stopping = True
        self._large.close()
        with self._lock:
            self._closed = True
            woken, self._idle = self._idle, []
        for slot in woken:
            self._wake[slot].release()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, jobs: Sequence[Job]) -> list[int]:
        """Queue the jobs, with the lock held; the slots to be woken."""
        now = perf_counter()
        for job in jobs:
            job.queued_at = now
            queue = self._waiting.get(job.served)
            if queue is None:
                queue = self._waiting[job.served] = deque()
            queue.append(job)
        self._depth += len(jobs)
        return [self._idle.pop() for _ in range(min(len(self._idle), len(jobs)))]

    def _decode_large(self, job: Job) -> bool:
        started = perf_counter()
        try:
            job.source = self._pixels(job.source, job.served.model.card.input)
        except InvalidImage as error:
            self._metrics.invalid_images.labels(error.reason).inc()
            self._loop.call_soon_threadsafe(_settle, [(job, error)])
            return False
        job.decode_seconds = perf_counter() - started
        return True

    def _forward(self, job: Job) -> None:
        with self._lock:
            woken = self._enqueue([job])
        for slot in woken:
            self._wake[slot].release()

    def _serve(self, slot: int) -> None:
        while self._serve_batch(slot):
            pass

    def _serve_batch(self, slot: int) -> bool:
        """A batch from queue to loop; its own frame, so that an idle slot holds no model."""
        batch = self._take(slot)
        if batch:
            self._loop.call_soon_threadsafe(_settle, self._answer(slot, batch))
        return bool(batch)

    def _take(self, slot: int) -> list[Job]:
        """This slot's share of the model that has waited longest; empty when closed.

        A slot that was woken and has not taken yet counts as free, so that a burst is split.
        """
        with self._lock:
            self._free += 1
        while True:
            with self._lock:
                while self._waiting:
                    if batch := self._share():
                        self._free -= 1
                        return batch
                if self._closed:
                    return []
                self._idle.append(slot)
            self._wake[slot].acquire()

    def _share(self) -> list[Job]:
        served, queue = next(iter(self._waiting.items()))
        share = min(self._limits.max_batch, math.ceil(len(queue) / self._free))
        taken = [queue.popleft() for _ in range(share)]
        self._depth -= share
        del self._waiting[served]
        if queue:
            self._waiting[served] = queue  # behind the other models
        return [job for job in taken if not job.gone]

    def _answer(self, slot: int, batch: list[Job]) -> list[Settled]:
        """Each job with its answer or its error; never raises."""
        started = perf_counter()
        settled: list[Settled] = []
        try:
            ready, pixels = self._decode(batch, started, settled)
            if ready:
                self._run(slot, ready, pixels, settled)
        except Exception:
            log.exception("a batch of %d failed", len(batch))
            problem = Problem(500, "inference_failed", "the network failed on this image")
            done = {id(job) for job, _ in settled}
            settled += [(job, problem) for job in batch if id(job) not in done]
        self._admission.served(len(batch), perf_counter() - started)
        return settled

    def _decode(
        self, batch: list[Job], started: float, settled: list[Settled]
    ) -> tuple[list[Job], Pixels]:
        spec = batch[0].served.model.card.input
        pixels = np.empty((len(batch), spec.height, spec.width, 3), dtype=np.uint8)
        ready: list[Job] = []
        before = started
        late = self._admission.late_after
        for job in batch:
            job.wait_seconds = started - job.queued_at
            if job.wait_seconds > late:
                self._metrics.shed.labels("late").inc()
                detail = f"the image waited {job.wait_seconds:.1f} s"
                settled.append((job, Refused("late", detail, job.wait_seconds)))
                continue
            try:
                pixels[len(ready)] = self._pixels(job.source, spec)
            except InvalidImage as error:
                self._metrics.invalid_images.labels(error.reason).inc()
                settled.append((job, error))
            else:
                ready.append(job)
            now = perf_counter()
            job.decode_seconds += now - before
            before = now
        return ready, pixels[: len(ready)]

    def _pixels(self, source: bytes | Pixels, spec: InputSpec) -> Pixels:
        return decode(source, spec, self._image_limits) if isinstance(source, bytes) else source

    def _run(
        self,
        slot: int,
        ready: list[Job],
        pixels: Pixels,
        settled: list[Settled],
    ) -> None:
        started = perf_counter()
        outputs = ready[0].served.model.run(slot, pixels)
        seconds = perf_counter() - started
        for row, job in enumerate(ready):
            job.inference_seconds = seconds
            job.outcome = (outputs, row)
            settled.append((job, job.finish(outputs, row)))
        metrics = self._metrics
        metrics.inference_duration.observe(seconds)
        metrics.batch_size.observe(len(ready))
        for job in ready:
            metrics.queue_wait.observe(job.wait_seconds)
            metrics.decode_duration.observe(job.decode_seconds)
        ready[0].served.series.count(outputs)
        if self.keeper is not None:
            self.keeper.consider(ready, outputs)


def _settle(settled: list[Settled]) -> None:
    for job, answer in settled:
        if not job.gone:
            job.settle(answer)
