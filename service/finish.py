"""The end of every request: counted and timed, in this one place."""

from __future__ import annotations

from service.metrics import Metrics
from service.request_record import RequestRecord


class Finish:
    """To be called once a request, on the event loop, when its answer has been given."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, record: RequestRecord) -> None:
        self._metrics.request_answered(record)
