"""The HTTP answers to an image that is refused and to what the queue says."""

from __future__ import annotations

from isoserve.service.batching.errors import (
    InferenceFailed,
    PredictionError,
    QueueFull,
    Unavailable,
)
from isoserve.service.errors import Problem
from isoserve.service.inference.images import InvalidImage

STATUSES: dict[type[PredictionError], int] = {
    QueueFull: 429,
    Unavailable: 503,
    InferenceFailed: 500,
}


def problem_of(error: InvalidImage | PredictionError, *, closes: bool = False) -> Problem:
    """The problem document's content; ``closes`` as in :class:`Problem`."""
    if isinstance(error, InvalidImage):
        return Problem(error.status, error.reason, error.detail, closes=closes)
    status = STATUSES[type(error)]
    return Problem(status, error.reason, error.detail, retry_after=error.retry_after, closes=closes)
