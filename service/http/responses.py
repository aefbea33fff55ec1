"""The bytes of a whole answer."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from isoserve.service.errors import CONTENT_TYPE, Problem
from isoserve.service.observability.request_record import Headers

JSON = b"application/json"


def whole_answer(status: int, headers: Headers, body: bytes, *, closes: bool) -> bytes:
    """Status line, headers and body, to be written at once.

    Args:
        headers: known to be sound, and all that the answer has but ``connection``.
        closes: whether the connection ends with it.
    """
    parts = [STATUS_LINE[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"connection: close\r\n\r\n" if closes else b"\r\n", body)
    return b"".join(parts)


def body_headers(body: bytes, content_type: bytes = JSON) -> list[tuple[bytes, bytes]]:
    """What says of a body what it is and where it ends."""
    return [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]


def problem_headers(
    problem: Problem, body: bytes, content_type: str = CONTENT_TYPE
) -> list[tuple[bytes, bytes]]:
    """The headers of a problem document, but those of the connection."""
    return [
        *body_headers(body, content_type.encode()),
        *(
            (name.encode(), value.encode())
            for name, value in problem.headers.items()
            if name != "connection"
        ),
    ]


def problem_answer(problem: Problem, request_id: str, headers: Headers, *, closes: bool) -> bytes:
    """A whole answer with a problem document; ``headers`` come before those of the document."""
    body = problem.body(request_id)
    named = [*headers, *problem_headers(problem, body)]
    return whole_answer(problem.status, named, body, closes=closes)
