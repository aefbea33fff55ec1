"""The end of every request: counted, timed, traced and summary, in this one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoserve.service.observability.access_log import AccessLog
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.observability.request_summary import summarize

if TYPE_CHECKING:
    from isoserve.service.observability.tracing.spans import Joined, Tracing


class RequestObserver:
    """To be called once a request, on the event loop, when its answer has been given."""

    def __init__(
        self, metrics: Metrics, access_log: AccessLog | None, tracing: Tracing | None
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._tracing = tracing

    def __call__(self, record: RequestRecord) -> None:
        joined = None if self._tracing is None else self._tracing.join(record)
        self._metrics.request_answered(record)
        if self._access_log is not None or joined is not None:
            self._summarize(record, joined)
        # A job leads back to its record: images would live until the garbage collector comes.
        record.jobs = ()

    def _summarize(self, record: RequestRecord, joined: Joined | None) -> None:
        summary = summarize(record)
        if self._access_log is not None:
            self._access_log.add(summary)
        if self._tracing is not None and joined is not None:
            self._tracing.add(summary, joined)
