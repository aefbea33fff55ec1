"""Requests that another site's page made a browser send."""

from __future__ import annotations

from isoserve.service.observability.request_record import Headers


def is_cross_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of another origin.

    Browsers name the page's origin in every request that may change something; programs name none.
    """
    named = dict(headers)
    origin = named.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != named.get(b"host", b"")
