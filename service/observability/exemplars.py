"""Exemplars: the request behind a number, for whoever looks for a case of it in a histogram."""

from __future__ import annotations

from isoserve.service.observability.request_record import RequestRecord

MOST_CHARACTERS = 128
"""Of an exemplar's names and values together, by OpenMetrics."""

PAUSE_SECONDS = 0.01
SLOW_SECONDS = 0.05

Exemplar = dict[str, str]


class Exemplars:
    """Chooses the requests that become exemplars.

    A scrape takes the newest of each bucket, so one every :data:`PAUSE_SECONDS` is plenty; those
    that took over :data:`SLOW_SECONDS` are what somebody will ask for, and all of them are kept.
    """

    def __init__(self) -> None:
        self._due = 0.0

    def of_request(self, record: RequestRecord) -> Exemplar | None:
        """The request's exemplar, if it is to be one."""
        now = record.started + record.seconds
        if record.seconds < SLOW_SECONDS and now < self._due:
            return None
        self._due = now + PAUSE_SECONDS
        return exemplar_of(record.id, record.trace_id)


def exemplar_of(request_id: str, trace_id: str = "") -> Exemplar | None:
    """The labels of an exemplar; None where a client's own id is too long for one."""
    exemplar = {"request_id": request_id}
    if trace_id:
        exemplar["trace_id"] = trace_id
    size = sum(len(name) + len(value) for name, value in exemplar.items())
    return exemplar if size <= MOST_CHARACTERS else None
