"""A batch: its images decoded, the network run once, each image's answer made and counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from isoserve.models.text import pluralize
from isoserve.service.batching.admission import Admission
from isoserve.service.batching.errors import InferenceFailed, QueueFull
from isoserve.service.batching.job import Job
from isoserve.service.batching.run_watch import RunWatch
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, decode
from isoserve.service.inference.judgement import judge
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.observability.log_writer import about, in_request
from isoserve.service.observability.metrics import Metrics

log = logging.getLogger("isoserve.batch")

JobResult = tuple[Job, Any]
"""A job and its answer, its PredictionError or its InvalidImage."""


class BatchObserver(Protocol):
    """Sees each batch that was answered, such as a shadow or the review queue."""

    def observe(self, jobs: Sequence[Job], pixels: Pixels, outputs: Outputs) -> None:
        """Take what it needs of a batch; in a slot's thread, so it returns at once.

        Args:
            jobs: the images, in the order of the outputs' rows.
            pixels: uint8 [N, H, W, 3], what the network saw.
        """

    def close(self) -> None:
        """End its thread; blocks until that is done."""


class BatchRunner:
    """Answers batches, in whichever thread it is called.

    Args:
        admission: learns what batches cost, and knows how long an image may wait.
        watch: knows what each slot runs.
        observers: see each batch after its answers are made.
    """

    def __init__(
        self,
        image_limits: ImageLimits,
        metrics: Metrics,
        admission: Admission,
        watch: RunWatch,
        observers: Sequence[BatchObserver] = (),
    ) -> None:
        self._watch = watch
        self._observers = observers
        self._image_limits = image_limits
        self._metrics = metrics
        self._admission = admission

    def answer(self, slot: int, batch: list[Job]) -> list[JobResult]:
        """Each job with its answer or its error; never raises."""
        started = perf_counter()
        results: list[JobResult] = []
        served = batch[0].served
        self._watch.begin(slot, served)
        try:
            ready, pixels = self._decode(batch, started, results)
            if ready:
                self._run(slot, ready, pixels, results)
        except Exception:
            ids = [job.timing.request_id for job in batch]
            log.exception("a batch of %d failed", len(batch), extra=about(*ids))
            done = {id(job) for job, _ in results}
            results += [(job, _failed()) for job in batch if id(job) not in done]
        finally:
            self._watch.end(slot)
        if not served.model.ended:  # what it took says nothing of other images
            self._admission.served(len(batch), perf_counter() - started)
        return results

    def pixels(self, job: Job) -> Pixels:
        """uint8 [H, W, 3] of a job's encoded image, or the pixels that it is.

        Raises:
            InvalidImage: see :func:`isoserve.service.inference.images.decode`.
        """
        if not isinstance(job.source, bytes):
            return job.source
        spec = job.served.model.card.input
        return decode(job.source, spec, self._image_limits, job.cost.header)

    def refused(self, error: InvalidImage) -> InvalidImage:
        """Count it; the same error without the frames it passed, which hold the image and it."""
        self._metrics.invalid_images.labels(error.reason).inc()
        return InvalidImage(error.reason, error.detail)

    def _decode(
        self, batch: list[Job], started: float, results: list[JobResult]
    ) -> tuple[list[Job], Pixels]:
        spec = batch[0].served.model.card.input
        pixels = np.empty((len(batch), spec.height, spec.width, 3), dtype=np.uint8)
        ready: list[Job] = []
        before = started
        late = self._admission.late_after
        for job in batch:
            timing = job.timing
            timing.wait_seconds = started - timing.queued_at
            if timing.wait_seconds > late:
                self._metrics.shed.labels("late").inc()
                detail = f"the image waited {timing.wait_seconds:.1f} s"
                results.append((job, QueueFull("late", detail, timing.wait_seconds)))
                continue
            in_request.set(timing.request_id)
            try:
                pixels[len(ready)] = self.pixels(job)
            except InvalidImage as error:
                results.append((job, self.refused(error)))
            except Exception:  # as of the network's failures: the others are answered
                log.exception("an image could not be decoded", extra=about(timing.request_id))
                results.append((job, _failed()))
            else:
                ready.append(job)
            now = perf_counter()
            if not job.cost.is_large:
                timing.decode_at, timing.decode_seconds = before, now - before
            before = now
        in_request.set("")
        return ready, pixels[: len(ready)]

    def _run(
        self,
        slot: int,
        ready: list[Job],
        pixels: Pixels,
        results: list[JobResult],
    ) -> None:
        started = perf_counter()
        outputs, rows, faults = judge(ready[0].served.model, slot, pixels)
        seconds = perf_counter() - started
        for job in ready:
            job.timing.run_at, job.timing.inference_seconds = started, seconds
        if faults:
            results += [(ready[row], _failed()) for row in faults]
            _log_faults({ready[row].timing.request_id: fault for row, fault in faults.items()})
            ready, pixels = [ready[row] for row in rows], pixels[rows]
        if outputs is None:
            return
        for row, job in enumerate(ready):
            job.timing.outcome = (outputs, row)
            results.append((job, _response(job, outputs, row, pixels)))
        metrics = self._metrics
        metrics.inference_duration.observe_one(seconds)
        metrics.batch_size.observe_one(len(ready))
        metrics.queue_wait.observe_all([job.timing.wait_seconds for job in ready])
        metrics.decode_duration.observe_all([job.timing.decode_seconds for job in ready])
        ready[0].served.series.count(outputs, [job.timing.request_id for job in ready])
        for observer in self._observers:
            observer.observe(ready, pixels, outputs)


def _response(job: Job, outputs: Outputs, row: int, pixels: Pixels) -> Any:
    try:
        return job.build_response(outputs, row, pixels)
    except Exception:  # whatever one image brings about, the others are answered
        log.exception("an answer could not be made", extra=about(job.timing.request_id))
        return _failed()


def _failed() -> InferenceFailed:
    return InferenceFailed("the network failed on this image")


def _log_faults(faults: dict[str, str]) -> None:
    fault = next(iter(faults.values()))
    log.error("no verdict on %s: %s", pluralize(len(faults), "image"), fault, extra=about(*faults))
