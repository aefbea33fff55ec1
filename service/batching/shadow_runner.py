"""A shadow: a version that sees a share of the live images, answers nobody and is only compared.

Slots offer each batch after its answers are made. What is drawn waits in a queue of bounded count
and bytes; its thread runs the shadow on it. The live version waits for none of this: what does not
fit is dropped and counted, and so is what the shadow fails on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from isoserve.service.batching.job import Job
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import decode
from isoserve.service.inference.judgement import judge
from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.observability.background_queue import BackgroundQueue, QueueBounds
from isoserve.service.repository.shadow import Rejected, Shadow, ShadowCounts

CLOSE_SECONDS = 10.0
"""For the run that it is in, when the server stops."""

WAITING_IMAGES = 256
WAITING_BYTES = 64 * 2**20
"""What the queue holds while the shadow is slower than its share of the traffic."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An image and what the live version said of it, without holding either version."""

    counts: ShadowCounts
    live_version: int
    label: str
    rejected: bool
    source: bytes | Pixels
    size: int
    """In bytes."""


class ShadowRunner:
    """Draws the shadows' share, and runs them in the thread of a queue.

    Args:
        shadow_of: a model's shadow, if it has one in memory.
        alpha: the operator's; both versions' verdicts are counted at it.
        draw: numbers in [0, 1), to choose the share by.
    """

    def __init__(
        self,
        shadow_of: Callable[[str], Shadow | None],
        image_limits: ImageLimits,
        alpha: float,
        max_batch: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._shadow_of = shadow_of
        self._image_limits = image_limits
        self._alpha = np.float32(alpha)
        self._draw = draw
        self._queue: BackgroundQueue[_Waiting] = BackgroundQueue(
            "shadow",
            self._compare_all,
            QueueBounds(WAITING_IMAGES, WAITING_BYTES, portion=max_batch),
            lambda waiting: waiting.size,
        )

    def observe(self, jobs: Sequence[Job], pixels: Pixels, outputs: Outputs) -> None:
        """Queue the shadow's share of a batch; returns at once.

        Args:
            pixels: uint8 [N, H, W, 3], what the live version saw.
        """
        live = jobs[0].served.model
        shadow = self._shadow_of(live.name)
        if shadow is None:
            return
        same_input = shadow.model.card.input == live.card.input
        rejected = self._rejected(outputs)
        for row, job in enumerate(jobs):
            if self._draw() >= shadow.share:
                continue
            # A row of the batch's pixels would keep all the batch alive.
            source = pixels[row].copy() if same_input else job.original
            if not same_input and not isinstance(source, bytes):
                shadow.counts.drop("input")
                continue
            size = len(source) if isinstance(source, bytes) else source.nbytes
            said = (live.version, live.labels[outputs.predicted[row]], rejected[row])
            if not self._queue.offer(_Waiting(shadow.counts, *said, source, size)):
                shadow.counts.drop("full")

    def close(self) -> None:
        """End the thread after the run it is in; what waits is not compared."""
        self._queue.close(CLOSE_SECONDS, drain=False)

    def _compare_all(self, waiting: list[_Waiting]) -> None:
        for counts, batch in groupby(waiting, key=lambda each: each.counts):
            if not self._queue.closing.is_set():
                self._compare_batch(counts, list(batch))

    def _compare_batch(self, counts: ShadowCounts, batch: list[_Waiting]) -> None:
        """Its own frame, so that a thread that waits holds no model."""
        shadow = self._shadow_of(counts.model)
        if shadow is None or shadow.counts is not counts:
            for _ in batch:
                counts.drop("gone")
            return
        try:
            self._compare(shadow, batch)
        except Exception:  # whatever a shadow does, the live version is not concerned
            counts.fail(len(batch))

    def _compare(self, shadow: Shadow, batch: Sequence[_Waiting]) -> None:
        model = shadow.model
        pixels = np.stack([self._pixels(each, model) for each in batch])
        outputs, rows, faults = judge(model, 0, pixels)
        if faults:
            shadow.counts.fail(len(faults), next(iter(faults.values())))
        if outputs is None:
            return
        for row, index, rejected in zip(
            rows, outputs.predicted, self._rejected(outputs), strict=True
        ):
            each = batch[row]
            comparison = shadow.counts.beside(each.live_version)
            comparison.count(each.label == model.labels[index], _who(each.rejected, rejected))

    def _pixels(self, waiting: _Waiting, model: Model) -> Pixels:
        if isinstance(waiting.source, bytes):
            return decode(waiting.source, model.card.input, self._image_limits)
        return waiting.source

    def _rejected(self, outputs: Outputs) -> list[bool]:
        rejected: list[bool] = (~(outputs.deciding_p_value > self._alpha)).tolist()
        return rejected


def _who(live: bool, shadow: bool) -> Rejected:
    if live:
        return "both" if shadow else "live"
    return "shadow" if shadow else "neither"
