"""``POST /v1/predict`` and ``POST /v1/predict/batch``: plain ASGI, beside FastAPI.

A request costs some hundred microseconds here; a FastAPI route with an upload and a response model
costs several hundred, more than a small network's whole inference. The plainest requests do not
even come here: see :mod:`isoserve.service.http.fast_path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from isoserve.service.batching.decode_pool import is_large
from isoserve.service.batching.job import AwaitedJob, Job, ResponseBuilder
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.batching.work_lane import WorkLanes
from isoserve.service.errors import Problem
from isoserve.service.http.body import SMALL_BYTES, BodyLimits, read_body
from isoserve.service.http.disconnect import gather_until_disconnect
from isoserve.service.http.middleware import send_body, send_problem
from isoserve.service.http.multipart import images_of_form, is_multipart
from isoserve.service.inference.explanation import explanation
from isoserve.service.inference.images import InvalidImage, check_header
from isoserve.service.inference.model import Outputs, Pixels
from isoserve.service.inference.verdicts import VerdictRequest, as_json, verdict
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings

PREDICT = "/v1/predict"
PREDICT_BATCH = "/v1/predict/batch"
FILE_FIELD = "file"
FILES_FIELD = "files"
DEFAULT_TOP_K = 1
PARAMETERS = ("model", "version", "top_k", "alpha", "explain")


@dataclass(frozen=True, slots=True)
class Query:
    """A predict request's parameters, checked."""

    model: str | None
    version: int | None
    top_k: int
    alpha: float
    explain: bool


class PredictRoutes:
    """The ASGI applications of both routes."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        metrics: Metrics,
        lanes: WorkLanes,
    ) -> None:
        self._repository = repository
        self._lanes = lanes
        self._metrics = metrics
        self._image_limits = settings.image_limits
        self._alpha = settings.alpha
        self._most_images = settings.max_batch_images
        self._one = BodyLimits(settings.max_body_bytes, settings.body_seconds)
        self._many = BodyLimits(settings.max_batch_body_bytes, settings.body_seconds)
        self.batcher: MicroBatcher | None = None

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One image, as the raw body or as the multipart field ``file``."""
        scope["route_label"] = PREDICT
        record: RequestRecord = scope["record"]
        try:
            query, served = self.ask(scope["query_string"], record)
            body = await read_body(scope, receive, self._one)
            if is_multipart(scope["headers"]):
                form = (body, scope["headers"], FILE_FIELD, 1)
                if len(body) > SMALL_BYTES:  # one that is made for it takes a second to parse
                    (body,) = await self._lanes.parsing.run(lambda: images_of_form(*form))
                else:
                    (body,) = images_of_form(*form)
            large = self.check(body)
            job = AwaitedJob(served, body, self.build_response(query, served, record.id), large)
            record.set_images([job.timing])
            self.submit([job])
            (answer,) = await gather_until_disconnect([job], receive)
            if isinstance(answer, InvalidImage):
                answer = problem_of(answer)
            if isinstance(answer, Problem):
                await send_problem(answer, scope, send)
            else:
                await send_body(answer, send)
        except InvalidImage as error:
            await send_problem(problem_of(error), scope, send)
        except Problem as problem:
            await send_problem(problem, scope, send, receive)

    async def predict_batch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Several images, as the multipart fields ``files``; each gets a verdict or a problem."""
        scope["route_label"] = PREDICT_BATCH
        record: RequestRecord = scope["record"]
        try:
            query, served = self.ask(scope["query_string"], record)
            headers = scope["headers"]
            if not is_multipart(headers):
                raise Problem(
                    415,
                    "not_multipart",
                    f"send multipart/form-data with the images in the field '{FILES_FIELD}'",
                )
            body = await read_body(scope, receive, self._many)
            images = await self._lanes.parsing.run(
                lambda: images_of_form(body, headers, FILES_FIELD, self._most_images)
            )
            results = await self._verdicts(images, served, query, record, receive)
            document = {
                "id": record.id,
                "model": served.model.name,
                "version": served.model.version,
                "results": results,
            }
            await send_body(as_json(document), send)
        except Problem as problem:
            await send_problem(problem, scope, send, receive)

    async def _verdicts(
        self,
        images: list[bytes],
        served: ServingModel,
        query: Query,
        record: RequestRecord,
        receive: Receive,
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{} for _ in images]
        jobs: dict[int, AwaitedJob] = {}
        for place, image in enumerate(images):
            image_id = f"{record.id}/{place}"
            try:
                large = self.check(image)
            except InvalidImage as error:
                results[place] = problem_of(error).as_dict(image_id)
            else:
                document = _document(query, served, image_id)
                jobs[place] = AwaitedJob(served, image, document, large)
        timings = {place: job.timing for place, job in jobs.items()}
        record.set_images([timings.get(place) for place in range(len(images))])
        if not jobs:
            return results
        waiting = [*jobs.values()]
        self.submit(waiting)
        answers = await gather_until_disconnect(waiting, receive)
        for place, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, InvalidImage):
                results[place] = problem_of(answer).as_dict(f"{record.id}/{place}")
            elif isinstance(answer, Problem):
                raise answer.copy()
            else:
                results[place] = answer
        return results

    def ask(self, query_string: bytes, record: RequestRecord) -> tuple[Query, ServingModel]:
        """What a request asks for, and the version that answers it.

        Raises:
            Problem: 422 for the query, 404 or 503 as :meth:`Repository.resolve`.
        """
        query = read_query(query_string, self._alpha)
        served = self._repository.resolve(query.model, query.version)
        record.set_target(served.model, query.alpha)
        return query, served

    @staticmethod
    def build_response(query: Query, served: ServingModel, image_id: str) -> ResponseBuilder:
        """Makes the image's answer, JSON."""
        document = _document(query, served, image_id)
        return lambda outputs, row, pixels: as_json(document(outputs, row, pixels))

    def check(self, body: bytes) -> bool:
        """Refuse, and count, what its first bytes already show to be no image that may be served.

        Returns:
            Whether it takes long to decode.

        Raises:
            InvalidImage: the reason.
        """
        try:
            return is_large(body, check_header(body, self._image_limits))
        except InvalidImage as error:
            self._metrics.invalid_images.labels(error.reason).inc()
            raise

    def refusal(self) -> Problem | None:
        """What :meth:`submit` would raise, where more than enough waits already."""
        return None if self.batcher is None else self.batcher.refusal()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none.

        Raises:
            Problem: 503 while the server starts or stops, 429 when too much waits.
        """
        if self.batcher is None:
            raise Problem(503, "starting", "the server is starting", retry_after=1)
        self.batcher.submit(jobs)


def read_query(query_string: bytes, alpha: float) -> Query:
    """Check the query.

    Raises:
        Problem: 422, a parameter is unknown, repeated, or out of its range.
    """
    if not query_string:
        return Query(None, None, DEFAULT_TOP_K, alpha, False)
    given: dict[str, str] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name not in PARAMETERS:
            raise _bad(name, f"is unknown; known are {', '.join(PARAMETERS)}")
        if name in given:
            raise _bad(name, "is given twice")
        given[name] = value
    return Query(
        given.get("model"),
        _whole(given, "version", None),
        _whole(given, "top_k", DEFAULT_TOP_K) or DEFAULT_TOP_K,
        _share(given.get("alpha"), alpha),
        _yes(given, "explain"),
    )


def _whole(given: dict[str, str], name: str, default: int | None) -> int | None:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise _bad(name, f"must be a whole number of at least 1, not '{text[:32]}'")
    return int(text)


def _share(text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise _bad("alpha", f"must lie between 0 and 1, both excluded, not '{text[:32]}'")
    return value


def _yes(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise _bad(name, f"must be true or false, not '{text[:32]}'")
    return text == "true"


def _bad(name: str, what: str) -> Problem:
    return Problem(422, "bad_parameter", f"the query parameter '{name[:32]}' {what}")


def _document(query: Query, served: ServingModel, image_id: str) -> ResponseBuilder:
    asked = VerdictRequest(image_id, query.alpha, query.top_k)

    def judged(outputs: Outputs, row: int, pixels: Pixels) -> dict[str, Any]:
        document = verdict(served.model, asked, outputs, row)
        if query.explain:
            document["explanation"] = explanation(outputs, row, pixels)
        return document

    return judged


def problem_of(error: InvalidImage) -> Problem:
    """The answer to an image that is refused."""
    return Problem(error.status, error.reason, error.detail)
