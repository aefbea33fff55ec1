"""What both transports of the protocol do: find the version, run the images, manage models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from isoserve.models.card import InputSpec
from isoserve.service.batching.errors import InferenceFailed, PredictionError
from isoserve.service.batching.image_cost import FREE, ImageCost
from isoserve.service.batching.job import AwaitedJob
from isoserve.service.batching.predictor import Predictor
from isoserve.service.batching.thread_pools import ThreadPools
from isoserve.service.errors import Problem
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.inference_protocol.answers import Row
from isoserve.service.inference_protocol.metadata import outputs_of
from isoserve.service.inference_protocol.requests import RequestLimits, RequestReader
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """Which version is asked, in which request, and how its transport waits for the results."""

    served: ServingModel
    record: RequestRecord
    wait: Callable[[Sequence[AwaitedJob]], Awaitable[list[Any]]]


class Inference:
    """Goes through the same queue and the same slots as ``/v1/predict``."""

    def __init__(
        self, settings: Settings, repository: Repository, predictor: Predictor, pools: ThreadPools
    ) -> None:
        self.repository = repository
        self.limits = RequestLimits(settings.max_batch_images, settings.max_body_bytes)
        self._predictor = predictor
        self.pools = pools
        self.alpha = settings.alpha
        self._management = settings.management

    @property
    def stuck(self) -> bool:
        """Whether a slot runs what cannot be ended."""
        return self._predictor.stuck

    def served(self, name: str, version: str | None) -> ServingModel:
        """The version that answers; ``version`` as the client wrote it.

        Raises:
            Problem: 400 for a version that is not a number, else as :meth:`Repository.resolve`.
        """
        return self.repository.resolve(name, _number(version))

    def reader(self, served: ServingModel) -> RequestReader:
        """Reads the requests to this version."""
        card = served.model.card
        return RequestReader(card.input, self.limits, self.alpha, outputs_of(card))

    def check(self, images: Sequence[bytes | Pixels], spec: InputSpec) -> list[ImageCost]:
        """Refuse what is not an image; of each, what decoding it costs.

        Raises:
            Problem: names the first image that is refused.
        """
        return [
            self._check(place, image, spec) if isinstance(image, bytes) else FREE
            for place, image in enumerate(images)
        ]

    async def run(
        self, asked: Asked, images: Sequence[bytes | Pixels], costs: Sequence[ImageCost]
    ) -> list[Row]:
        """Each image's row, in order.

        Raises:
            Problem: an image is refused.
            PredictionError: the queue is full, the server stops, or the network failed.
        """
        jobs = [
            AwaitedJob(asked.served, image, as_row, cost)
            for image, cost in zip(images, costs, strict=True)
        ]
        asked.record.set_images([job.timing for job in jobs])
        self._predictor.submit(jobs)
        try:
            answers = await asked.wait(jobs)
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()
            raise
        return rows_of(answers)

    def check_management(self, parameters: Sequence[str]) -> None:
        """Refuse to load and unload where that is off, or by parameters that are not taken.

        Raises:
            Problem: 403 or 400.
        """
        if not self._management:
            raise Problem(
                403, "management_off", "loading and unloading are off: start with --management"
            )
        # Triton takes a configuration or a whole model here; this server's models are its folder's.
        for name in parameters:
            if name == "config" or name.startswith("file:"):
                raise Problem(400, "bad_request", f"the parameter '{name[:64]}' is not supported")

    async def load(self, name: str, version: str | None = None) -> None:
        """Try again what was refused or unloaded, and what is new: one version, or all.

        Raises:
            Problem: 404, no such model or version; 400, a version is refused, or none serves.
        """
        number = _number(version)
        await self.pools.loading.run(lambda: self.repository.load(name, number))
        record = self.repository.find(name)
        said = [
            f"version {known.version}: {known.detail}"
            for known in [*record.versions.values()]
            if known.reason and number in (None, known.version)
        ]
        if record.served is None or said:
            serves = record.served and f"version {record.served.model.version} serves"
            said.append(serves or "no version serves")
            raise Problem(400, "not_loaded", "; ".join(said))

    async def unload(self, name: str, version: str | None = None) -> None:
        """Take one version out of service, and the next lower one returns, or the whole model.

        Raises:
            Problem: 404, no such model or version.
        """
        number = _number(version)
        await self.pools.loading.run(lambda: self.repository.unload(name, number))

    def _check(self, place: int, image: bytes, spec: InputSpec) -> ImageCost:
        try:
            return self._predictor.check(image, spec)
        except InvalidImage as error:
            raise _of_image(place, error) from error


def _number(version: str | None) -> int | None:
    if version is None:
        return None
    if not (version.isascii() and version.isdigit() and len(version) <= 18):
        raise Problem(
            400, "bad_version", f"the version must be a whole number, not '{version[:32]}'"
        )
    return int(version)


def rows_of(answers: Sequence[Any]) -> list[Row]:
    """The rows of a request's images, in their order, of what became of their jobs.

    Raises:
        Problem: an image is refused.
        PredictionError: the queue is full, the server stops, or the network failed.
    """
    for place, answer in enumerate(answers):
        if isinstance(answer, InvalidImage):
            raise _of_image(place, answer)
        if isinstance(answer, PredictionError):
            raise _of_row(place, answer)
    return [*answers]


def as_row(outputs: Outputs, row: int, pixels: Pixels) -> Row:  # noqa: ARG001
    """What the job of an image is answered with."""
    return outputs, row


def _of_image(place: int, error: InvalidImage) -> Problem:
    return Problem(error.status, error.reason, f"image {place}: {error.detail}")


def _of_row(place: int, error: PredictionError) -> PredictionError:
    """The error to raise: where the network failed, it names the image."""
    if isinstance(error, InferenceFailed):
        return InferenceFailed(f"image {place}: {error.detail}")
    return error.copy()
