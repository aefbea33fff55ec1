"""Chooses what is kept for review and writes it, without ever holding up a request.

Slots offer each batch after its answers are made. What is chosen waits in a queue of bounded count
and bytes; its thread writes it. While the database is away the queue holds what it can, the rest is
lost, counted and logged, and writing goes on when it is back.
"""

from __future__ import annotations

import hashlib
import io
import logging
import random
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
from isoserve.service.observability.background_queue import BackgroundQueue, QueueBounds
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
    """Chooses, and writes in the thread of a queue.

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
        self._is_full = False
        self._reported = 0
        waiting = QueueBounds(
            policy.waiting_images,
            policy.waiting_bytes,
            until_consumed=True,
            portion=WRITE_AT_ONCE,
            idle_seconds=PRUNE_SECONDS,
        )
        self._queue: BackgroundQueue[_Chosen] = BackgroundQueue(
            "review", self._write, waiting, _size
        )

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
        self._queue.close(seconds)

    def _offer(self, chosen: _Chosen) -> None:
        if self._queue.offer(chosen):
            return
        self._outcomes.labels("lost").inc()
        if not self._is_full:
            self._is_full = True
            log.error("the review queue is full: images are not kept until the database is back")

    def _write(self, batch: list[_Chosen]) -> None:
        """Write until it succeeds or the server stops; an empty batch only makes room."""
        pause = 1.0
        while True:
            try:
                self._write_batch(batch)
                return
            except Exception as error:  # whatever a database does, the next attempt may succeed
                log.error(
                    "the review database fails (%s); trying again in %g s",
                    str(error).partition("\n")[0],
                    pause,
                )
            if self._queue.closing.wait(pause):
                log.error("not kept: %s: the server stops", pluralize(len(batch), "image"))
                return
            pause = min(2 * pause, LONGEST_PAUSE)

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
            self._report_dropped()
        gone = self._store.prune(self._policy.bounds)
        if gone:
            log.info("past the review queue's bounds, deleted: %s", pluralize(gone, "image"))

    def _report_dropped(self) -> None:
        if self._is_full:
            self._is_full = False
            dropped = self._queue.dropped - self._reported
            self._reported += dropped
            log.warning(
                "the review database writes again; not kept: %s", pluralize(dropped, "image")
            )


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
