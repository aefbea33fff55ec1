"""The end of every request: counted, timed and told, in this one place."""

from __future__ import annotations

from service.access_log import AccessLog
from service.metrics import Metrics
from service.request_record import RequestRecord


class Finish:
    """To be called once a request, on the event loop, when its answer has been given."""

    def __init__(self, metrics: Metrics, access_log: AccessLog | None = None) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def __call__(self, record: RequestRecord) -> None:
        self._metrics.request_answered(record)
        if self._access_log is not None:
            self._access_log.add(record)
