"""The id that a request carries through headers, logs, traces and exemplars."""

from __future__ import annotations

import re
from random import getrandbits

from isoserve.service.observability.request_record import Headers

SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
"""A client's X-Request-ID is taken over when it looks like this: it ends up in headers and logs."""

CLIENT_GONE = 499
"""Status under which a request is counted whose client left; nobody receives it."""


def request_id_of(headers: Headers) -> str:
    """The client's own id of a request, if it gave a sane one, or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return new_request_id()


def new_request_id() -> str:
    """A name for a request whose client gave none; unique, not secret, and no system call."""
    return f"{getrandbits(128):032x}"
