"""Micro-batches of what is waiting: a bounded queue in front of a few inference threads.

There is no batching delay: a free slot takes a share of what is there (at most ``max_batch``),
decodes it, runs the network once, makes each image's answer, and hops back to the event loop once
for the whole batch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter

from isoserve.service.batching.admission import Admission, QueueLimits
from isoserve.service.batching.batch_runner import BatchObserver, BatchRunner, JobResult
from isoserve.service.batching.decode_pool import DecodePool
from isoserve.service.batching.errors import InferenceFailed, QueueFull, Unavailable
from isoserve.service.batching.fair_share import TURN_SECONDS, FairShare
from isoserve.service.batching.job import Job
from isoserve.service.batching.run_watch import RunWatch
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage
from isoserve.service.observability.log_writer import about, in_request
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.versions import ServingModel

log = logging.getLogger("isoserve.batching")

INLINE_SECONDS = 0.001
INLINE_SECONDS_IN_ALL = 0.002
"""Images that come while all is idle, and take less, one and all, are answered on the event loop
itself: hops to other threads, and GIL contention, cost more than they bring."""

SLOT_THREAD = "slot-"
"""How the names of the slots' threads begin."""

END_SECONDS = 1.0
"""For a run that was told to end, when the server stops."""

LEAST_SHARE_SECONDS = 0.002
"""A share of more is no greater than leaves the busy slots theirs: a slot that ends finds work at
once, while the answers travel, and an image that comes late waits for a shorter batch. Below, the
hops of the batches more cost more than that brings."""


class MicroBatcher:
    """The queue and its slots; made and closed on the event loop it answers to.

    Args:
        observers: see each batch after its answers are made.
    """

    def __init__(
        self,
        slots: int,
        limits: QueueLimits,
        image_limits: ImageLimits,
        metrics: Metrics,
        observers: Sequence[BatchObserver] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._admission = Admission(limits, slots)
        self._watch = RunWatch(limits.run_seconds)
        self._runner = BatchRunner(image_limits, metrics, self._admission, self._watch, observers)
        self._metrics = metrics
        self._lock = threading.Lock()
        self._waiting: dict[ServingModel, deque[Job]] = {}
        self._depth = 0
        self._idle: list[int] = []
        self._free = 0
        self._reserved: dict[str, int] = {}
        self._fair = FairShare()
        self._inline: int | None = None
        self._stopping = self._closed = False
        self._wake = [threading.Lock() for _ in range(slots)]
        for lock in self._wake:
            lock.acquire()
        self._threads = [
            threading.Thread(
                target=self._serve, args=(slot,), name=f"{SLOT_THREAD}{slot}", daemon=True
            )
            for slot in range(slots)
        ]
        for thread in self._threads:
            thread.start()
        self._large = DecodePool(slots, limits, self._decode_large, self._forward)
        metrics.watch_queue(lambda: self._depth + self._large.waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none.

        Raises:
            QueueFull: too many images wait already, or would wait too long.
            Unavailable: the server stops.
        """
        large = [job for job in jobs if job.cost.is_large]
        small = [job for job in jobs if not job.cost.is_large] if large else jobs
        try:
            with self._lock:
                if self._stopping:
                    raise Unavailable("stopping", "the server is stopping", 1)
                if small:
                    name = small[0].served.model.name
                    self._admission.admit(self._fair.counted(name), len(small))
                if large:
                    self._large.submit(large)
                self._enqueue(small)
                woken = [] if self._leave_to_loop() else self._rouse(len(small))
        except QueueFull as refusal:
            self._metrics.shed.labels(refusal.limit).inc(len(jobs))
            raise
        self._release(woken)

    @property
    def stuck(self) -> bool:
        """Whether a slot runs what cannot be ended."""
        return self._watch.stuck

    def full(self, model: str) -> bool:
        """Whether one image more for this model would be refused now."""
        if not self._depth and not self._reserved:
            return False
        with self._lock:
            waiting = self._fair.counted(model, self._reserved.get(model, 0))
        return bool(self._admission.limit_met(waiting, 1))

    def refusal(self, model: str) -> QueueFull | None:
        """Why one image more for this model would be refused now, if it would be; on the loop.

        A loop that has fallen behind reads many requests before it runs any: those let in
        in this round count as waiting, or all of them would be.
        """
        if not self.full(model):
            return None
        with self._lock:
            waiting = self._fair.counted(model, self._reserved.get(model, 0))
            limit = self._admission.limit_met(waiting, 1)
            if not limit:
                return None
            self._metrics.shed.labels(limit).inc()
            return self._admission.refusal(limit, waiting)

    def reserve(self, model: str) -> None:
        """A request that is not refused will come with an image later in this round."""
        if not self._reserved:
            self._loop.call_soon(self._next_round)
        self._reserved[model] = self._reserved.get(model, 0) + 1

    def _next_round(self) -> None:
        self._reserved = {}

    def close(self) -> None:
        """Let the slots finish what waits, then end them; blocks until they have.

        A run that does not end is told to, and left behind where even that does not help.
        """
        with self._lock:
            self._stopping = True
        self._large.close()
        with self._lock:
            self._closed = True
            woken, self._idle = self._idle, []
        self._release(woken)
        for thread in self._threads:
            thread.join(self._limits.close_seconds)
        if any(thread.is_alive() for thread in self._threads):
            self._watch.end_all()
            for thread in self._threads:
                thread.join(END_SECONDS)
        self._watch.close()

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, with the lock held."""
        now = perf_counter()
        for job in jobs:
            job.timing.queued_at = now
            queue = self._waiting.get(job.served)
            if queue is None:
                queue = self._waiting[job.served] = deque()
            queue.append(job)
            self._fair.queued(job.served.model.name, 1)
        self._depth += len(jobs)

    def _rouse(self, jobs: int) -> list[int]:
        """The slots to be woken for so many jobs more, with the lock held."""
        return [self._idle.pop() for _ in range(min(len(self._idle), jobs))]

    def _leave_to_loop(self) -> bool:
        """Whether the loop sees to what waits, later in this round; with the lock held."""
        if not self._quick():
            return False
        if self._inline is None and len(self._idle) == len(self._threads):
            self._inline = self._idle.pop()
            self._loop.call_soon(self._serve_inline)
        return self._inline is not None

    def _quick(self) -> bool:
        """Whether what waits is known to keep a thread for less than the loop can spare."""
        cost = self._admission.seconds_an_image
        return 0 < cost < INLINE_SECONDS and 0 < self._depth * cost < INLINE_SECONDS_IN_ALL

    def _serve_inline(self) -> None:
        """Answer what came in this round in place of a slot, or wake slots if it is much."""
        with self._lock:
            slot, self._inline = self._inline, None
            assert slot is not None
            if self._waiting and not self._quick():
                batch, woken = [], [slot, *self._rouse(self._depth - 1)]
            else:
                batch, woken = self._share() if self._waiting else [], []
                self._free -= 1
        if batch:
            _set_results(self._runner.answer(slot, batch))
        if not woken:
            with self._lock:
                self._free += 1
                if self._waiting or self._closed:
                    woken = [slot]
                else:
                    self._idle.append(slot)
        self._release(woken)

    def _release(self, slots: list[int]) -> None:
        for slot in slots:
            self._wake[slot].release()

    def _decode_large(self, job: Job) -> bool:
        job.timing.decode_at = started = perf_counter()
        in_request.set(job.timing.request_id)
        try:
            job.source = self._runner.pixels(job)
        except InvalidImage as error:
            self._loop.call_soon_threadsafe(_set_results, [(job, self._runner.refused(error))])
            return False
        except Exception:  # the pool's thread must not end
            log.exception("an image could not be decoded")
            failure = InferenceFailed("the image could not be decoded")
            self._loop.call_soon_threadsafe(_set_results, [(job, failure)])
            return False
        job.timing.decode_seconds = perf_counter() - started
        return True

    def _forward(self, job: Job) -> None:
        with self._lock:
            self._enqueue([job])
            woken = self._rouse(1)
        self._release(woken)

    def _serve(self, slot: int) -> None:
        while self._serve_batch(slot):
            pass

    def _serve_batch(self, slot: int) -> bool:
        """A batch from queue to loop; its own frame, so that an idle slot holds no model."""
        batch = self._take(slot)
        if batch:
            self._loop.call_soon_threadsafe(_set_results, self._runner.answer(slot, batch))
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

    def _next_model(self) -> ServingModel:
        """The model among those that wait whose turn it is, with the lock held."""
        if len(self._waiting) == 1:
            return next(iter(self._waiting))
        return min(self._waiting, key=lambda served: self._fair.turn(served.model.name))

    def _share(self) -> list[Job]:
        """The images a free slot takes, with the lock held."""
        served = self._next_model()
        queue = self._waiting[served]
        cost = self._admission.seconds_an_image
        among_free = math.ceil(len(queue) / (self._free - len(self._idle)))
        among_all = math.ceil(len(queue) / len(self._threads))
        least = int(LEAST_SHARE_SECONDS / cost) + 1 if cost else 1
        largest = min(self._limits.max_batch, served.model.images_a_run)
        share = min(largest, among_free, max(among_all, least))
        if cost and self._fair.several:
            share = min(share, int(TURN_SECONDS / cost) + 1)
        taken = [queue.popleft() for _ in range(share)]
        self._depth -= share
        self._fair.taken(served.model.name, share, share * cost)
        if not queue:
            del self._waiting[served]
        return [job for job in taken if not job.cancelled]


def _set_results(results: list[JobResult]) -> None:
    for job, answer in results:
        if not job.cancelled:
            try:
                job.set_result(answer)
            except Exception:  # the others of the batch wait for their answers too
                log.exception("an answer could not be given", extra=about(job.timing.request_id))
