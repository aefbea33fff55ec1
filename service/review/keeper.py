"""Chooses what is kept for review and writes it, without ever holding up a request.

Slots offer each batch after its answers are made. What is chosen waits in a queue of bounded count
and bytes; one thread writes it. While the database is away the queue holds what it can, the rest is
lost, counted and logged, and writing goes on when it is back.
"""

from __future__ import annotations

import hashlib
import io
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from PIL import Image
from prometheus_client import Counter

from isoserve.models.text import pluralize
from isoserve.service.batching.job import Job
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.review.store import Bounds, KeptImage, Unwritable

log = logging.getLogger("isoserve.review")

WRITE_AT_ONCE = 64
PRUNE_SECONDS = 60.0
LONGEST_PAUSE = 30.0


class Store(Protocol):
    """What the keeper needs of a database."""

    def keep(self, images: Sequence[KeptImage]) -> int: ...

    def prune(self, bounds: Bounds) -> int: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept and how much may wait to be written.

    ``sample``: share of the accepted images that are kept too; ``waiting_images`` and
    ``waiting_bytes``: what the queue holds while the database is slow or away.
    """

    alpha: float
    sample: float
    bounds: Bounds
    waiting_images: int = 512
    waiting_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Chosen:
    source: bytes | Pixels
    taken: datetime
    model: str
    version: int
    label: str
    probability: float
    p_value: float
    entropic_score: float
    rejected: bool


class Keeper:
    """The queue and its writer thread.

    Args:
        outcomes: counter with a label ``outcome``: ``kept``, ``known`` (the same bytes are there
            already) or ``lost``.
        draw: numbers in [0, 1), to sample accepted images by.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy,
        outcomes: Counter,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._policy = policy
        self._alpha = np.float32(policy.alpha)
        self._draw = draw
        self._outcomes = outcomes
        for outcome in ("kept", "known", "lost"):
            outcomes.labels(outcome)
        self._waiting: deque[_Chosen] = deque()
        self._bytes = 0
        self._lost = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._write, name="review", daemon=True)
        self._thread.start()

    def observe(self, jobs: Sequence[Job], pixels: Pixels, outputs: Outputs) -> None:  # noqa: ARG002
        """Queue the batch's rejected images and a sample of the others; returns at once."""
        sample = self._policy.sample
        for row, rejected in enumerate((~(outputs.deciding_p_value > self._alpha)).tolist()):
            if jobs[row].timing.is_foreign:  # or any page could fill the queue
                continue
            if rejected or (sample and self._draw() < sample):
                self._offer(_choose(jobs[row], outputs, row, rejected))

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, unless the database stays away for ``seconds``."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)

    def _offer(self, chosen: _Chosen) -> None:
        size = _size(chosen)
        with self._changed:
            if (
                len(self._waiting) < self._policy.waiting_images
                and self._bytes + size <= self._policy.waiting_bytes
            ):
                self._waiting.append(chosen)
                self._bytes += size
                self._changed.notify()
                return
            self._lost += 1
            first = self._lost == 1
        self._outcomes.labels("lost").inc()
        if first:
            log.error("the review queue is full: images are not kept until the database is back")

    def _write(self) -> None:
        pause = 1.0
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            try:
                self._write_batch(batch)
                pause = 1.0
            except Exception as error:  # whatever a database does, the next attempt may succeed
                log.error(
                    "the review database fails (%s); trying again in %g s",
                    str(error).partition("\n")[0],
                    pause,
                )
                if self._rest(pause):
                    return
                pause = min(2 * pause, LONGEST_PAUSE)

    def _next_batch(self) -> list[_Chosen] | None:
        """What to write next, left in the queue; empty when it is time to prune, None to end."""
        with self._changed:
            if not self._waiting and not self._stopping:
                self._changed.wait(PRUNE_SECONDS)
            if self._stopping and not self._waiting:
                return None
            return [self._waiting[i] for i in range(min(len(self._waiting), WRITE_AT_ONCE))]

    def _write_batch(self, batch: list[_Chosen]) -> None:
        if batch:
            try:
                kept = self._store.keep([_kept(chosen) for chosen in batch])
            except Unwritable as error:
                log.error("not kept: %s: %s", pluralize(len(batch), "image"), error)
                self._outcomes.labels("lost").inc(len(batch))
            else:
                self._outcomes.labels("kept").inc(kept)
                self._outcomes.labels("known").inc(len(batch) - kept)
            lost = self._done(batch)
            if lost:
                log.warning(
                    "the review database writes again; not kept: %s", pluralize(lost, "image")
                )
        gone = self._store.prune(self._policy.bounds)
        if gone:
            log.info("past the review queue's bounds, deleted: %s", pluralize(gone, "image"))

    def _done(self, batch: list[_Chosen]) -> int:
        """Take the batch off the queue; how many were turned away since the last one."""
        with self._changed:
            for chosen in batch:
                self._waiting.popleft()
                self._bytes -= _size(chosen)
            lost, self._lost = self._lost, 0
        return lost

    def _rest(self, seconds: float) -> bool:
        """Wait; True when the keeper was closed meanwhile."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, seconds)


def _choose(job: Job, outputs: Outputs, row: int, rejected: bool) -> _Chosen:
    model = job.served.model
    index = outputs.predicted[row]
    return _Chosen(
        # A row of the batch's pixels would keep all the batch alive.
        source=job.original if isinstance(job.original, bytes) else job.original.copy(),
        taken=datetime.now(UTC),
        model=model.name,
        version=model.version,
        label=model.labels[index],
        probability=float(outputs.probabilities[row, index]),
        p_value=float(outputs.p_value[row]),
        entropic_score=float(outputs.entropic_score[row]),
        rejected=rejected,
    )


def _kept(chosen: _Chosen) -> KeptImage:
    image = chosen.source if isinstance(chosen.source, bytes) else _png(chosen.source)
    return KeptImage(
        sha256=hashlib.sha256(image).hexdigest(),
        taken=chosen.taken,
        model=chosen.model,
        version=chosen.version,
        label=chosen.label,
        probability=chosen.probability,
        p_value=chosen.p_value,
        entropic_score=chosen.entropic_score,
        rejected=chosen.rejected,
        image=image,
    )


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _size(chosen: _Chosen) -> int:
    return len(chosen.source) if isinstance(chosen.source, bytes) else chosen.source.nbytes
