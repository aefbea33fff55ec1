"""What every transport does with an image: find its version, look at its header, queue it.

A transport brings its own way of waiting: a :class:`~isoserve.service.batching.job.Job` of its own
kind, which takes the answer on the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from isoserve.models.card import InputSpec
from isoserve.service.batching.errors import QueueFull, Unavailable
from isoserve.service.batching.image_cost import ImageCost, cost_of
from isoserve.service.batching.job import Job, ResponseBuilder
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.inference.explanation import explanation
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import InvalidImage, check_header
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.inference.verdicts import VerdictRequest, as_json, verdict
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ServingModel


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked about images; ``model`` and ``version``: None for the default ones."""

    model: str | None
    version: int | None
    top_k: int
    alpha: float
    explain: bool


class Predictor:
    """Stands under every transport.

    Attributes:
        batcher: the queue; None while the server starts.
    """

    def __init__(self, repository: Repository, metrics: Metrics, image_limits: ImageLimits) -> None:
        self._repository = repository
        self._metrics = metrics
        self._image_limits = image_limits
        self.batcher: MicroBatcher | None = None

    def resolve(self, query: Query, record: RequestRecord) -> ServingModel:
        """The version that answers.

        Raises:
            Problem: as :meth:`Repository.resolve`.
        """
        served = self._repository.resolve(query.model, query.version)
        record.set_target(served.model, query.alpha)
        return served

    def check(self, image: bytes, spec: InputSpec) -> ImageCost:
        """Refuse, and count, what its first bytes already show to be no image that may be served.

        Returns:
            What decoding it for this input costs.

        Raises:
            InvalidImage: the reason.
        """
        try:
            header = check_header(image, self._image_limits)
        except InvalidImage as error:
            self._metrics.invalid_images.labels(error.reason).inc()
            raise
        return cost_of(header, spec)

    @property
    def stuck(self) -> bool:
        """Whether a slot runs what cannot be ended: the process is to be restarted."""
        return self.batcher is not None and self.batcher.stuck

    def refusal(self, served: ServingModel) -> QueueFull | None:
        """What :meth:`submit` would raise, where more than enough waits already."""
        return None if self.batcher is None else self.batcher.refusal(served.model.name)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none.

        Raises:
            QueueFull: too much waits.
            Unavailable: the server starts or stops.
        """
        if self.batcher is None:
            raise Unavailable("starting", "the server is starting", 1)
        self.batcher.submit(jobs)


def build_document(query: Query, served: ServingModel, image_id: str) -> ResponseBuilder:
    """Makes the image's verdict, a JSON document."""
    request = VerdictRequest(image_id, query.alpha, query.top_k)

    def build(outputs: Outputs, row: int, pixels: Pixels) -> dict[str, Any]:
        document = verdict(served.model, request, outputs, row)
        if query.explain:
            document["explanation"] = explanation(served.model.card, outputs, row, pixels)
        return document

    return build


def build_json(query: Query, served: ServingModel, image_id: str) -> ResponseBuilder:
    """Makes the image's verdict, JSON as bytes."""
    build = build_document(query, served, image_id)
    return lambda outputs, row, pixels: as_json(build(outputs, row, pixels))
