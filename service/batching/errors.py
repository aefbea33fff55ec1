"""Why an image gets no verdict through no fault of its own; each transport says it in its way."""

from __future__ import annotations

import math
from typing import Self

from isoserve.service.inference.judgement import FAILED


class PredictionError(Exception):
    """An image is not answered.

    Args:
        reason: a stable slug a program may switch on.
        detail: a sentence for a person.
        retry_after: whole seconds until another attempt may succeed; None where that is not known.
    """

    def __init__(self, reason: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after

    def copy(self) -> Self:
        """The same, to be raised where this one is kept.

        A raised exception holds the frames it passes; where one of them holds it as well, both and
        the image between them live until the garbage collector comes.
        """
        again = type(self).__new__(type(self), *self.args)
        again.__dict__ |= self.__dict__
        return again


class QueueFull(PredictionError):
    """The queue takes no more.

    Args:
        limit: which limit was met, the metric's label.
        detail: the same for the client.
        wait: seconds until the queue will have moved on.
    """

    def __init__(self, limit: str, detail: str, wait: float = 1.0) -> None:
        super().__init__("queue_full", f"too many requests: {detail}", max(1, math.ceil(wait)))
        self.limit = limit


class Unavailable(PredictionError):
    """The server starts or stops."""


class InferenceFailed(PredictionError):
    """The network or a decoder failed on the image."""

    def __init__(self, detail: str) -> None:
        super().__init__(FAILED, detail)
