"""One image on its way through the queue and a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from isoserve.service.batching.image_cost import FREE, ImageCost
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.observability.image_timing import ImageTiming
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
        cost: of decoding it; one that is large is not decoded in a slot.

    Attributes:
        original: the source as it came; ``source`` itself is pixels once a large one is decoded.
    """

    __slots__ = ("build_response", "cost", "original", "served", "source", "timing")

    def __init__(
        self,
        served: ServingModel,
        source: bytes | Pixels,
        build_response: ResponseBuilder,
        cost: ImageCost = FREE,
    ) -> None:
        self.served = served
        self.source = self.original = source
        self.build_response = build_response
        self.cost = cost
        self.timing = ImageTiming(source)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more; asked from any thread."""
        raise NotImplementedError

    def set_result(self, answer: Any) -> None:
        """Take the answer, a PredictionError or an InvalidImage; called once, on the event loop."""
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
        cost: ImageCost = FREE,
    ) -> None:
        super().__init__(served, source, build_response, cost)
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def cancelled(self) -> bool:
        return self.future.cancelled()

    def set_result(self, answer: Any) -> None:
        if not self.future.done():
            self.future.set_result(answer)


async def gather_results(jobs: Sequence[AwaitedJob]) -> list[Any]:
    """Each job's answer or error, in order; a transport that is cancelled needs no more."""
    return [await job.future for job in jobs]
