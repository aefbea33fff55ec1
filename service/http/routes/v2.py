"""``/v2``: the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from isoserve.service.batching.body_budget import BodyHold
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.errors import Problem
from isoserve.service.http.body import BodyLimits, read_body
from isoserve.service.http.csrf import is_cross_origin
from isoserve.service.http.direct_route import DirectRoute
from isoserve.service.http.disconnect import gather_until_disconnect
from isoserve.service.http.request_head import header_of
from isoserve.service.inference.verdicts import as_json
from isoserve.service.inference_protocol.answers import write_answer
from isoserve.service.inference_protocol.compression import decompress
from isoserve.service.inference_protocol.handler import Asked, Inference
from isoserve.service.inference_protocol.metadata import (
    HTTP_EXTENSIONS,
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
)
from isoserve.service.inference_protocol.openapi import OPERATIONS, describe_operation
from isoserve.service.inference_protocol.requests import (
    InferenceRequest,
    object_of,
    read_header_length,
)
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings

HEADER_LENGTH = b"inference-header-content-length"

INLINE_BYTES = 64 * 2**10
"""A larger body is parsed in a thread, so that the event loop goes on meanwhile."""

INFER = ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")

MANAGEMENT_BODY_BYTES = 64 * 2**10


JSON, BINARY = "application/json", "application/octet-stream"

Handler = Callable[[Request], Awaitable[Response]]


def inference_protocol_routes(settings: Settings, inference: Inference) -> APIRouter:
    """The routes, bound to this application's queue and repository."""
    router = APIRouter(tags=["inference protocol"], route_class=DirectRoute)
    handlers = InferenceProtocol(settings, inference).handlers
    for operation in OPERATIONS:
        router.add_api_route(
            operation.path,
            handlers[operation.name],
            methods=[operation.method.upper()],
            operation_id=operation.id,
            summary=operation.summary,
            openapi_extra=describe_operation(operation),
        )
    return router


class InferenceProtocol:
    """Answers the operations.

    Attributes:
        handlers: by the operation's name.
    """

    def __init__(self, settings: Settings, inference: Inference) -> None:
        self._inference = inference
        self._body = BodyLimits(settings.max_batch_body_bytes, settings.body_seconds)
        self._small_body = BodyLimits(MANAGEMENT_BODY_BYTES, settings.body_seconds)
        self.handlers: dict[str, Handler] = {
            "live": self._live,
            "ready": self._ready,
            "server_metadata": self._server_metadata,
            "model_ready": self._model_ready,
            "model_metadata": self._model_metadata,
            "model_config": self._model_config,
            "infer": self._infer,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
        }

    async def _live(self, request: Request) -> Response:  # noqa: ARG002
        live = not self._inference.stuck
        return _json({"live": live}, 200 if live else 503)

    async def _ready(self, request: Request) -> Response:  # noqa: ARG002
        ready = not self._inference.repository.not_ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def _server_metadata(self, request: Request) -> Response:  # noqa: ARG002
        return _json(server_metadata(HTTP_EXTENSIONS))

    async def _model_ready(self, request: Request) -> Response:
        return _json({"name": self._served(request).model.name, "ready": True})

    async def _model_metadata(self, request: Request) -> Response:
        return _json(model_metadata(self._served(request).model))

    async def _model_config(self, request: Request) -> Response:
        return _json(model_config(self._served(request).model, self._inference.limits.images))

    async def _infer(self, request: Request) -> Response:
        served = self._served(request)
        record: RequestRecord = request.scope["record"]
        record.set_target(served.model, self._inference.alpha)
        body = await read_body(request.scope, request.receive, self._body)
        encoding = header_of(request.scope["headers"], b"content-encoding")
        hold: BodyHold = request.scope["body_hold"]
        limit = min(self._body.bytes, hold.inflated_limit)
        reader = self._inference.reader(served)

        def read() -> tuple[InferenceRequest, list[ImageCost]]:
            plain = decompress(body, encoding or b"", limit, hold.inflate)
            length = read_header_length(
                header_of(request.scope["headers"], HEADER_LENGTH), len(plain)
            )
            asked = reader.read(plain, length)
            return asked, self._inference.check(asked.images, reader.spec)

        if encoding is not None:
            asked, costs = await self._inference.pools.inflating.run(read)
        elif len(body) > INLINE_BYTES:
            asked, costs = await self._inference.pools.parsing.run(read)
        else:
            asked, costs = read()
        record.alpha = asked.alpha
        wait = partial(gather_until_disconnect, receive=request.receive)
        rows = await self._inference.run(Asked(served, record, wait), asked.images, costs)
        text, json_bytes = write_answer(served.model, asked, rows)
        if json_bytes is None:
            return Response(text, media_type=JSON)
        length = {HEADER_LENGTH.decode(): str(json_bytes)}
        return Response(text, headers=length, media_type=BINARY)

    def _served(self, request: Request) -> ServingModel:
        return self._inference.served(*_target(request))

    async def _index(self, request: Request) -> Response:
        _check_origin(request)
        ready = (await self._small_json(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise Problem(400, "bad_request", "'ready' must be true or false")
        return _json(repository_index([*self._inference.repository.models.values()], ready))

    async def _load(self, request: Request) -> Response:
        _check_origin(request)
        await self._check_management(request)
        await self._inference.load(*_target(request))
        return _json({})

    async def _unload(self, request: Request) -> Response:
        _check_origin(request)
        await self._check_management(request)
        await self._inference.unload(*_target(request))
        return _json({})

    async def _check_management(self, request: Request) -> None:
        self._inference.check_management([])  # before the body is read
        given = object_of(await self._small_json(request), "parameters")
        self._inference.check_management([*given])

    async def _small_json(self, request: Request) -> dict[str, Any]:
        body = await read_body(request.scope, request.receive, self._small_body)
        try:
            document = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise Problem(400, "bad_request", f"the body is not JSON: {error.msg}") from error
        if not isinstance(document, dict):
            raise Problem(400, "bad_request", "the body must be a JSON object")
        return document


def _target(request: Request) -> tuple[str, str | None]:
    """Name and version in the path, as they stand there."""
    return request.path_params["name"], request.path_params.get("version")


def _check_origin(request: Request) -> None:
    """Refuse what another site's page made a browser send."""
    if is_cross_origin(request.scope["headers"]):
        raise Problem(403, "cross_site", "a page of another site may not ask this", closes=True)


def _json(document: Any, status: int = 200) -> Response:
    return Response(as_json(document), status, media_type=JSON)
