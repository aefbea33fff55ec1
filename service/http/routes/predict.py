"""``POST /v1/predict`` and ``POST /v1/predict/batch``.

The plainest requests do not even come here: see :mod:`isoserve.service.http.fast_path`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Receive

from isoserve.models.card import InputSpec
from isoserve.service.batching.body_budget import SMALL_BYTES
from isoserve.service.batching.errors import InferenceFailed, PredictionError
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.batching.job import AwaitedJob
from isoserve.service.batching.predictor import Predictor, Query, build_document, build_json
from isoserve.service.batching.thread_pools import ThreadPools
from isoserve.service.errors import Problem
from isoserve.service.http.body import BodyLimits, read_body
from isoserve.service.http.direct_route import DirectRoute
from isoserve.service.http.disconnect import gather_until_disconnect
from isoserve.service.http.error_handlers import ProblemResponse
from isoserve.service.http.multipart import images_of_form, is_multipart
from isoserve.service.http.openapi import PredictDocument
from isoserve.service.http.problems import problem_of
from isoserve.service.http.query import read_query
from isoserve.service.http.schemas import BatchAnswer, Verdict
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.verdicts import as_json
from isoserve.service.observability.request_record import Headers, RequestRecord
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings

PREDICT = "/v1/predict"
PREDICT_BATCH = "/v1/predict/batch"
FILE_FIELD = "file"
FILES_FIELD = "files"
JSON = "application/json"


def predict_routes(settings: Settings, predictor: Predictor, pools: ThreadPools) -> APIRouter:
    """The routes, bound to this application's queue."""
    router = APIRouter(tags=["predict"], route_class=DirectRoute)
    routes = PredictRoutes(settings, predictor, pools)
    describe = PredictDocument(settings)
    router.add_api_route(
        PREDICT,
        routes.predict,
        methods=["POST"],
        operation_id="predict",
        summary="One image: its class and whether the model knows such images",
        responses=describe.responses(Verdict),
        openapi_extra=describe.image(FILE_FIELD),
    )
    router.add_api_route(
        PREDICT_BATCH,
        routes.predict_batch,
        methods=["POST"],
        operation_id="predict_batch",
        summary="Several images: a verdict or a problem for each, in order",
        responses=describe.responses(BatchAnswer),
        openapi_extra=describe.images(FILES_FIELD),
    )
    return router


class PredictRoutes:
    """The functions of both routes."""

    def __init__(
        self,
        settings: Settings,
        predictor: Predictor,
        pools: ThreadPools,
    ) -> None:
        self._predictor = predictor
        self._pools = pools
        self._alpha = settings.alpha
        self._most_images = settings.max_batch_images
        self._one = BodyLimits(settings.max_body_bytes, settings.body_seconds)
        self._many = BodyLimits(settings.max_batch_body_bytes, settings.body_seconds)

    async def predict(self, request: Request) -> Response:
        """One image, as the raw body or as the multipart field ``file``."""
        scope = request.scope
        record: RequestRecord = scope["record"]
        query = read_query(scope["query_string"], self._alpha)
        served = self._predictor.resolve(query, record)
        body = await read_body(scope, request.receive, self._one)
        if is_multipart(scope["headers"]):
            form = (body, scope["headers"], FILE_FIELD, 1)
            if len(body) > SMALL_BYTES:  # one that is made for it takes a second to parse
                (body,) = await self._pools.parsing.run(lambda: images_of_form(*form))
            else:
                (body,) = images_of_form(*form)
        cost = self._predictor.check(body, served.model.card.input)
        job = AwaitedJob(served, body, build_json(query, served, record.id), cost)
        record.set_images([job.timing])
        self._predictor.submit([job])
        (answer,) = await gather_until_disconnect([job], request.receive)
        if isinstance(answer, (InvalidImage, PredictionError)):
            return ProblemResponse(problem_of(answer, scope["headers"]), scope)
        return Response(answer, media_type=JSON)

    async def predict_batch(self, request: Request) -> Response:
        """Several images, as the multipart fields ``files``; each gets a verdict or a problem."""
        scope = request.scope
        record: RequestRecord = scope["record"]
        query = read_query(scope["query_string"], self._alpha)
        served = self._predictor.resolve(query, record)
        headers = scope["headers"]
        if not is_multipart(headers):
            raise Problem(
                415,
                "not_multipart",
                f"send multipart/form-data with the images in the field '{FILES_FIELD}'",
            )
        body = await read_body(scope, request.receive, self._many)
        images = await self._pools.parsing.run(
            lambda: self._read_form(body, headers, served.model.card.input)
        )
        document = {
            "id": record.id,
            "model": served.model.name,
            "version": served.model.version,
            "results": await self._verdicts(images, served, query, record, request.receive),
        }
        return Response(as_json(document), media_type=JSON)

    def _read_form(
        self, body: bytes, headers: Headers, spec: InputSpec
    ) -> list[tuple[bytes, ImageCost | InvalidImage]]:
        """The images of a form, and what each costs or why it is refused; in a thread, since even
        headers may be made to take long."""
        images = images_of_form(body, headers, FILES_FIELD, self._most_images)
        return [(image, self._cost_or_refusal(image, spec)) for image in images]

    def _cost_or_refusal(self, image: bytes, spec: InputSpec) -> ImageCost | InvalidImage:
        try:
            return self._predictor.check(image, spec)
        except InvalidImage as error:
            # Not the error itself, which holds the frames it passed, and they the image.
            return InvalidImage(error.reason, error.detail)

    async def _verdicts(
        self,
        images: Sequence[tuple[bytes, ImageCost | InvalidImage]],
        served: ServingModel,
        query: Query,
        record: RequestRecord,
        receive: Receive,
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{} for _ in images]
        jobs: dict[int, AwaitedJob] = {}
        for place, (image, cost) in enumerate(images):
            image_id = f"{record.id}/{place}"
            if isinstance(cost, InvalidImage):
                results[place] = problem_of(cost).as_dict(image_id)
            else:
                document = build_document(query, served, image_id)
                jobs[place] = AwaitedJob(served, image, document, cost)
        timings = {place: job.timing for place, job in jobs.items()}
        record.set_images([timings.get(place) for place in range(len(images))])
        if not jobs:
            return results
        waiting = [*jobs.values()]
        self._predictor.submit(waiting)
        answers = await gather_until_disconnect(waiting, receive)
        all_failed = all(isinstance(answer, InferenceFailed) for answer in answers)
        for place, answer in zip(jobs, answers, strict=True):
            is_of_image = isinstance(answer, InferenceFailed) and not all_failed
            if is_of_image or isinstance(answer, InvalidImage):
                results[place] = problem_of(answer).as_dict(f"{record.id}/{place}")
            elif isinstance(answer, PredictionError):
                raise answer.copy()
            else:
                results[place] = answer
        return results
