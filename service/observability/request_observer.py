"""The end of every request: counted, timed, traced and logged, in this one place."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from isoserve.service.observability.access_log import AccessLog
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_record import RequestRecord

if TYPE_CHECKING:
    from isoserve.service.observability.tracing.spans import Tracing


class RequestObserver:
    """To be called once a request, on the event loop, when its answer has been given.

    The record is not to be changed after that: the threads of the log and of the traces read it.
    """

    def __init__(
        self, metrics: Metrics, access_log: AccessLog | None, tracing: Tracing | None
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._tracing = tracing

    def __call__(self, record: RequestRecord) -> None:
        record.ended = time()
        joined = None if self._tracing is None else self._tracing.join(record)
        record.headers = ()  # thousands of records may wait for the log, headers are large
        self._metrics.request_answered(record)
        if self._access_log is not None:
            self._access_log.add(record)
        if self._tracing is not None and joined is not None:
            self._tracing.add(record, joined)
