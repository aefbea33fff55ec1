"""Requests that are over: the one place that each comes to, however it was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Histogram

from service.head import Headers
from service.job import Job
from service.metrics import Metrics


@dataclass(slots=True)
class FinishedRequest:
    """What is known of a request once its answer has been written.

    ``jobs``: its images that were queued; one that ran has its outputs and its stages' seconds.
    ``headers``: the request's. ``seconds``: from the end of its headers.
    """

    id: str
    method: str
    path: str
    route: str
    status: int
    seconds: float
    headers: Headers
    jobs: Sequence[Job] = ()


class FinishedRequests:
    """Counts them."""

    def __init__(self, metrics: Metrics) -> None:
        self._duration = metrics.request_duration
        self._bound: dict[tuple[str, int], Histogram] = {}

    def add(self, request: FinishedRequest) -> None:
        """Count a request; on the event loop."""
        key = (request.route, request.status)
        series = self._bound.get(key)
        if series is None:
            series = self._bound[key] = self._duration.labels(request.route, str(request.status))
        series.observe(request.seconds)
