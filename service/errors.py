"""Errors as RFC 9457 ``application/problem+json``: what was wrong, never what is inside."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import orjson

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer with an error status.

    Args:
        status: the HTTP status.
        reason: a stable slug a program may switch on.
        detail: a sentence for a person: what was wrong, with which value, what would be right.
        retry_after: seconds, for the Retry-After header.
        closes: the connection ends with this answer, because its request was not read to its end.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        retry_after: int | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if closes:
            self.headers["connection"] = "close"
        self.closes = closes

    def as_dict(self, request_id: str) -> dict[str, object]:
        """The members of the problem document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "id": request_id,
        }

    def body(self, request_id: str) -> bytes:
        """The problem document as JSON."""
        return orjson.dumps(self.as_dict(request_id))


def allow_of(methods: Iterable[str]) -> str:
    """The Allow header: HEAD is answered wherever GET is."""
    given = [*dict.fromkeys(methods)]
    return ", ".join([*given, "HEAD"] if "GET" in given and "HEAD" not in given else given)
