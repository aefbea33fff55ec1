"""A request's head, as it arrives: what is wanted, and the headers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from service.problems import new_request_id

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""

SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
"""A client's X-Request-ID is taken over when it looks like this: it ends up in headers and logs."""


class RequestHead(NamedTuple):
    """``target``: path and query, as sent."""

    method: bytes
    target: bytes
    headers: Headers


def request_id_of(headers: Headers) -> str:
    """The client's name for its request where that is sane, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return new_request_id()
