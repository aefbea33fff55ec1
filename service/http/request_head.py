"""A request's head, as it arrives."""

from __future__ import annotations

from typing import Any, NamedTuple

from isoserve.service.observability.request_record import Headers


class RequestHead(NamedTuple):
    """``target``: path and query, as sent; names of headers in lower case."""

    method: bytes
    target: bytes
    headers: Headers


def header_of(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header; None where the request has none."""
    for key, value in headers:
        if key == name:
            return value
    return None


class _DiscardedHeaders(list[Any]):
    """Stands where headers are collected, once they are complete."""

    def append(self, header: object) -> None:
        """Pass it over."""


DISCARDED_HEADERS = _DiscardedHeaders()
