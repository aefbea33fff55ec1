"""What is known of one request: filled in on its way, and told by whoever wants to at its end."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoserve.service.batching.job import Job
    from isoserve.service.repository.versions import ServingModel

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
        model, version, labels: what was asked and served; empty where it did not come to that.
        alpha: what the request's verdicts are held against.
        jobs: its images in order; None for one that was refused by its first bytes; none of them
            once the request has ended.
        trace_id: hexadecimal, where the request is traced.
    """

    __slots__ = (
        "alpha",
        "headers",
        "id",
        "jobs",
        "labels",
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
        self.labels: Sequence[str] = ()
        self.alpha = 0.0
        self.jobs: Sequence[Job | None] = ()
        self.trace_id = ""

    def set_target(self, served: ServingModel, alpha: float) -> None:
        """The version that is to answer, and at which alpha."""
        model = served.model
        self.model, self.version, self.labels = model.name, model.version, model.labels
        self.alpha = alpha

    def set_jobs(self, jobs: Sequence[Job | None]) -> None:
        """The images, before they are queued."""
        self.jobs = jobs
        for job in jobs:
            if job is not None:
                job.request_id = self.id
