"""One image on its way through the queue and a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from isoserve.models.image_files.header import HEAD_BYTES
from isoserve.service.inference.model import Outputs, Pixels
from isoserve.service.repository.versions import ServingModel

ResponseBuilder = Callable[[Outputs, int, Pixels], Any]
"""Makes an image's answer out of its batch's outputs, its row in them, and the batch's pixels,
uint8 [N, H, W, 3], in the slot."""


class Job:
    """One image; what answers it is its kind's.

    Args:
        served: the version that answers, held until the answer is made.
        source: the encoded image, or its pixels, uint8 [H, W, 3] at the model's size.
        build_response: makes the answer.
        large: whether it takes long to decode, and so is not decoded in a slot.

    Attributes:
        request_id: whose image it is.
        head, size: of the source as it came: its first bytes, none of pixels, and how many.
        decode_at, run_at: when its decoding and its batch's run began, in perf_counter's seconds.
        outcome: its batch's outputs and its row in them, once they are there.
    """

    __slots__ = (
        "build_response",
        "decode_at",
        "decode_seconds",
        "head",
        "inference_seconds",
        "large",
        "outcome",
        "queued_at",
        "request_id",
        "run_at",
        "served",
        "size",
        "source",
        "wait_seconds",
    )

    def __init__(
        self,
        served: ServingModel,
        source: bytes | Pixels,
        build_response: ResponseBuilder,
        large: bool = False,
    ) -> None:
        self.served = served
        self.source = source
        self.build_response = build_response
        self.large = large
        if isinstance(source, bytes):
            self.head, self.size = source[:HEAD_BYTES], len(source)
        else:
            self.head, self.size = b"", source.nbytes
        self.request_id = ""
        self.outcome: tuple[Outputs, int] | None = None
        self.queued_at = self.decode_at = self.run_at = 0.0
        self.wait_seconds = self.decode_seconds = self.inference_seconds = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more; asked from any thread."""
        raise NotImplementedError

    def set_result(self, answer: Any) -> None:
        """Take the answer, a Problem or an InvalidImage; called once, on the event loop."""
        raise NotImplementedError


class AwaitedJob(Job):
    """A job that a coroutine waits for: ``future`` gets what settles it, errors too as a value.

    A raised error would hold the frames it passed, and they it and the image.
    """

    __slots__ = ("future",)

    def __init__(
        self,
        served: ServingModel,
        source: bytes | Pixels,
        build_response: ResponseBuilder,
        large: bool = False,
    ) -> None:
        super().__init__(served, source, build_response, large)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def cancelled(self) -> bool:
        return self.future.cancelled()

    def set_result(self, answer: Any) -> None:
        if not self.future.done():
            self.future.set_result(answer)
