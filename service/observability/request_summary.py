"""What is left of a request that has ended: facts to be told later, in some other thread.

Neither an image's bytes nor the model that judged it are held by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import NamedTuple

import numpy as np

from isoserve.service.batching.job import Job
from isoserve.service.inference.model import Outputs
from isoserve.service.inference.verdicts import is_ood
from isoserve.service.observability.request_record import RequestRecord


class ImageSummary(NamedTuple):
    """Of one image; times as in :class:`isoserve.service.batching.job.Job`."""

    outcome: tuple[Outputs, int] | None
    queued_at: float
    wait_seconds: float
    decode_at: float
    decode_seconds: float
    run_at: float
    inference_seconds: float
    size: int
    head: bytes


class RequestSummary(NamedTuple):
    """Of one request; ``time``: when it ended, in seconds of the epoch."""

    time: float
    id: str
    method: str
    route: str
    status: int
    started: float
    seconds: float
    trace_id: str
    reason: str
    model: str
    version: int
    alpha: float
    labels: Sequence[str]
    images: Sequence[ImageSummary | None]

    def verdict(self, image: ImageSummary) -> Verdict | None:
        """What the client was told of one of the images; None where it got no verdict."""
        if image.outcome is None:
            return None
        outputs, row = image.outcome
        p_value = outputs.p_value[row]
        return Verdict(self.labels[outputs.predicted[row]], p_value, is_ood(p_value, self.alpha))


class Verdict(NamedTuple):
    """Class, p-value, and whether it is out-of-distribution at the request's alpha."""

    label: str
    p_value: np.float32
    is_ood: bool


def summarize(record: RequestRecord) -> RequestSummary:
    """Of a request that ended just now."""
    return RequestSummary(
        time(),
        record.id,
        record.method,
        record.route,
        record.status,
        record.started,
        record.seconds,
        record.trace_id,
        record.reason,
        record.model,
        record.version,
        record.alpha,
        record.labels,
        [_of_image(job) for job in record.jobs],
    )


def _of_image(job: Job | None) -> ImageSummary | None:
    if job is None:
        return None
    return ImageSummary(
        job.outcome,
        job.queued_at,
        job.wait_seconds,
        job.decode_at,
        job.decode_seconds,
        job.run_at,
        job.inference_seconds,
        job.size,
        job.head,
    )
