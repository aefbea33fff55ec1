"""What is known of one request: filled in on its way, then counted, logged and traced."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np

from isoserve.service.inference.model import Model
from isoserve.service.inference.verdicts import is_ood
from isoserve.service.observability.image_timing import ImageTiming

OTHER_ROUTE = "other"

Headers = Sequence[tuple[bytes, bytes]]


class Verdict(NamedTuple):
    """Class, p-value, and whether it is out-of-distribution at the request's alpha."""

    label: str
    p_value: np.float32
    is_ood: bool


class RequestRecord:
    """One request, HTTP or gRPC; holds neither an image nor the model that judged it.

    Attributes:
        id: the client's X-Request-ID, or one made here.
        headers: names in lower case; none of them once the request has ended.
        route: its label in metrics, of a bounded set.
        status: HTTP's; 499 where the client left.
        started, seconds: the request's headers, in perf_counter's seconds, and from them to the
            answer's end.
        ended: when that was, in seconds of the epoch.
        reason: of the problem it was answered with, if it was.
        model, version, labels: what was asked and served; empty where it did not come to that.
        alpha: what the request's verdicts are held against.
        images: its images in order; None for one that was refused by its first bytes.
        caller: the name of its token, if that has one.
        is_foreign: a page of another site made a browser send it.
        trace_id: hexadecimal, where the request is traced.
    """

    __slots__ = (
        "alpha",
        "caller",
        "ended",
        "headers",
        "id",
        "images",
        "is_foreign",
        "labels",
        "method",
        "model",
        "reason",
        "route",
        "seconds",
        "started",
        "status",
        "trace_id",
        "version",
    )

    def __init__(self, request_id: str, method: str, headers: Headers = ()) -> None:
        self.id = request_id
        self.method = method
        self.headers = headers
        self.started = perf_counter()
        self.route = OTHER_ROUTE
        self.status = 0
        self.seconds = self.ended = 0.0
        self.reason = ""
        self.caller = ""
        self.is_foreign = False
        self.model = ""
        self.version = 0
        self.labels: Sequence[str] = ()
        self.alpha = 0.0
        self.images: Sequence[ImageTiming | None] = ()
        self.trace_id = ""

    def set_target(self, model: Model, alpha: float) -> None:
        """The version that is to answer, and at which alpha."""
        self.model, self.version, self.labels = model.name, model.version, model.labels
        self.alpha = alpha

    def set_images(self, images: Sequence[ImageTiming | None]) -> None:
        """The images, before they are queued."""
        self.images = images
        for image in images:
            if image is not None:
                image.request_id = self.id
                image.is_foreign = self.is_foreign

    def verdict(self, image: ImageTiming) -> Verdict | None:
        """What the client was answered on one of the images; None where it got no verdict."""
        if image.outcome is None:
            return None
        outputs, row = image.outcome
        out = is_ood(outputs.deciding_p_value[row], self.alpha)
        return Verdict(self.labels[outputs.predicted[row]], outputs.p_value[row], out)
