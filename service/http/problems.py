"""The HTTP answers to an image that is refused and to what the queue says."""

from __future__ import annotations

from isoserve.service.batching.errors import (
    InferenceFailed,
    PredictionError,
    QueueFull,
    Unavailable,
)
from isoserve.service.errors import Problem
from isoserve.service.http.multipart import is_urlencoded
from isoserve.service.inference.images import InvalidImage, Reason
from isoserve.service.observability.request_record import Headers

STATUSES: dict[type[PredictionError], int] = {
    QueueFull: 429,
    Unavailable: 503,
    InferenceFailed: 500,
}


def problem_of(
    error: InvalidImage | PredictionError, headers: Headers = (), *, closes: bool = False
) -> Problem:
    """The problem document's content; ``closes`` as in :class:`Problem`.

    Args:
        headers: the request's: ``curl -d`` breaks a file, and shows by its content type.
    """
    if isinstance(error, InvalidImage):
        detail = error.detail
        if error.reason is not Reason.EMPTY and is_urlencoded(headers):
            detail += (
                "; the content type is that of a form: curl's -d drops the line ends of a file, "
                "use --data-binary @photo.jpg"
            )
        return Problem(error.status, error.reason, detail, closes=closes)
    status = STATUSES[type(error)]
    return Problem(status, error.reason, error.detail, retry_after=error.retry_after, closes=closes)
