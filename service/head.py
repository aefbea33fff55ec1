"""A request's head, as it arrives."""

from __future__ import annotations

from typing import NamedTuple

from service.request_record import Headers


class RequestHead(NamedTuple):
    """``target``: path and query, as sent; names of headers in lower case."""

    method: bytes
    target: bytes
    headers: Headers
