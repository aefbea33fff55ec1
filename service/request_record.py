"""What is known of one request: filled in on its way, and told by whoever wants to at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from service.verdicts import is_ood

if TYPE_CHECKING:
    from service.job import Job
    from service.versions import Served

OTHER_ROUTE = "other"

Headers = Sequence[tuple[bytes, bytes]]


class RequestRecord:
    """One request, HTTP or gRPC.

    Attributes:
        id: the client's X-Request-ID, or one made here.
        route: its label in metrics, of a bounded set.
        status: HTTP's; 499 where the client left.
        seconds: from the request's headers to the answer's end.
        reason: of the problem it was answered with, if it was.
        model, version: what was asked and served; empty where it did not come to that.
        alpha: what the request's verdicts are held against.
        jobs: its images in order; None for one that was refused by its first bytes.
        trace_id: hexadecimal, where the request is traced.
    """

    __slots__ = (
        "alpha",
        "headers",
        "id",
        "jobs",
        "method",
        "model",
        "reason",
        "route",
        "seconds",
        "started",
        "status",
        "trace_id",
        "version",
    )

    def __init__(self, request_id: str, method: str, headers: Headers = ()) -> None:
        self.id = request_id
        self.method = method
        self.headers = headers
        self.started = perf_counter()
        self.route = OTHER_ROUTE
        self.status = 0
        self.seconds = 0.0
        self.reason = ""
        self.model = ""
        self.version = 0
        self.alpha = 0.0
        self.jobs: Sequence[Job | None] = ()
        self.trace_id = ""

    def asks(self, served: Served, alpha: float) -> None:
        """The version that is to answer, and at which alpha."""
        self.model, self.version, self.alpha = served.model.name, served.model.version, alpha

    def has(self, jobs: Sequence[Job | None]) -> None:
        """The images, before they are queued."""
        self.jobs = jobs
        for job in jobs:
            if job is not None:
                job.request_id = self.id

    def stages(self) -> Stages:
        """Where the time of its images went; of several, the longest of each stage."""
        jobs = [job for job in self.jobs if job is not None]
        return Stages(
            max((job.wait_seconds for job in jobs), default=0.0),
            max((job.decode_seconds for job in jobs), default=0.0),
            max((job.inference_seconds for job in jobs), default=0.0),
        )

    def verdicts(self) -> list[Told | None]:
        """One an image, in order; None for one without a verdict."""
        return [
            None if job is None or job.outcome is None else _told(job, self.alpha)
            for job in self.jobs
        ]


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds."""

    queue_wait: float
    decode: float
    inference: float


@dataclass(frozen=True, slots=True)
class Told:
    """The verdict a client was told: class, p-value, and whether it is out-of-distribution."""

    label: str
    p_value: float
    is_ood: bool


def _told(job: Job, alpha: float) -> Told:
    assert job.outcome is not None
    outputs, row = job.outcome
    p_value = outputs.p_value[row]
    label = job.served.model.labels[int(outputs.probabilities[row].argmax())]
    return Told(label, p_value, is_ood(p_value, alpha))
