"""``/v2``: the Open Inference Protocol over HTTP, plain ASGI beside FastAPI.

It has its own small table of routes because everything under ``/v2``, unknown paths and wrong
methods included, must be answered in the protocol's own form, ``{"error": "..."}``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from isoserve.service.batching.body_budget import BodyHold
from isoserve.service.batching.errors import PredictionError
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.errors import Problem, allow_of
from isoserve.service.http.body import BodyLimits, read_body
from isoserve.service.http.disconnect import gather_until_disconnect
from isoserve.service.http.middleware import send_body, send_problem
from isoserve.service.http.problems import problem_of
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


@dataclass(frozen=True, slots=True)
class Call:
    """A request to one of the routes: ``name`` and ``version`` are the path's, as they stand."""

    scope: Scope
    receive: Receive
    name: str
    version: str | None

    def header(self, name: bytes) -> bytes | None:
        """A header's value."""
        return next((value for key, value in self.scope["headers"] if key == name), None)


class Answer(NamedTuple):
    """What a route answers."""

    body: bytes
    status: int = 200
    content_type: bytes = b"application/json"
    headers: Sequence[tuple[bytes, bytes]] = ()


class Route(NamedTuple):
    """``label`` is the path for metrics and documentation."""

    method: str
    label: str
    pattern: re.Pattern[str]
    answer: Callable[[Call], Awaitable[Answer]]


class InferenceProtocol:
    """The ASGI application of everything under ``/v2``."""

    def __init__(self, settings: Settings, inference: Inference) -> None:
        self._inference = inference
        self._body = BodyLimits(settings.max_batch_body_bytes, settings.body_seconds)
        self._small_body = BodyLimits(MANAGEMENT_BODY_BYTES, settings.body_seconds)
        self.routes = [
            *(_route("POST", label, self._infer) for label in INFER),
            _route("GET", "/v2/health/live", self._live),
            _route("GET", "/v2/health/ready", self._ready),
            _route("GET", "/v2/models/{name}/ready", self._model_ready),
            _route("GET", "/v2/models/{name}/versions/{version}/ready", self._model_ready),
            _route("GET", "/v2", self._server_metadata),
            _route("GET", "/v2/models/{name}", self._model_metadata),
            _route("GET", "/v2/models/{name}/versions/{version}", self._model_metadata),
            _route("GET", "/v2/models/{name}/config", self._model_config),
            _route("GET", "/v2/models/{name}/versions/{version}/config", self._model_config),
            _route("POST", "/v2/repository/index", self._index),
            *(_route("POST", label, self._load) for label in _of_version("load")),
            *(_route("POST", label, self._unload) for label in _of_version("unload")),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except PredictionError as error:
            await send_problem(problem_of(error), scope, send)
            return
        except Problem as problem:
            await send_problem(problem, scope, send, receive)
            return
        await send_body(
            answer.body,
            send,
            status=answer.status,
            content_type=answer.content_type,
            headers=[*answer.headers],
        )

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        allowed = []
        for route in self.routes:
            found = route.pattern.fullmatch(path)
            if found is None:
                continue
            if route.method != method:
                allowed.append(route.method)
                continue
            scope["route_label"] = route.label
            named = found.groupdict()
            return await route.answer(
                Call(scope, receive, named.get("name", ""), named.get("version"))
            )
        if not allowed:
            raise Problem(404, "not_found", f"no route '{path[:128]}'")
        raise _not_allowed(method, allowed)

    async def _live(self, call: Call) -> Answer:  # noqa: ARG002
        return _json({"live": True})

    async def _ready(self, call: Call) -> Answer:  # noqa: ARG002
        ready = self._inference.repository.ready
        return _json({"ready": ready}, 200 if ready else 503)

    async def _server_metadata(self, call: Call) -> Answer:  # noqa: ARG002
        return _json(server_metadata(HTTP_EXTENSIONS))

    async def _model_ready(self, call: Call) -> Answer:
        return _json({"name": self._served(call).model.name, "ready": True})

    async def _model_metadata(self, call: Call) -> Answer:
        return _json(model_metadata(self._served(call).model))

    async def _model_config(self, call: Call) -> Answer:
        return _json(model_config(self._served(call).model, self._inference.limits.images))

    async def _infer(self, call: Call) -> Answer:
        served = self._served(call)
        record: RequestRecord = call.scope["record"]
        record.set_target(served.model, self._inference.alpha)
        body = await read_body(call.scope, call.receive, self._body)
        encoding = call.header(b"content-encoding")
        hold: BodyHold = call.scope["body_hold"]
        limit = min(self._body.bytes, hold.inflated_limit)
        reader = self._inference.reader(served)

        def read() -> tuple[InferenceRequest, list[ImageCost]]:
            plain = decompress(body, encoding or b"", limit, hold.inflate)
            length = read_header_length(call.header(HEADER_LENGTH), len(plain))
            request = reader.read(plain, length)
            return request, self._inference.check(request.images, reader.spec)

        if encoding is not None:
            request, costs = await self._inference.pools.inflating.run(read)
        elif len(body) > INLINE_BYTES:
            request, costs = await self._inference.pools.parsing.run(read)
        else:
            request, costs = read()
        record.alpha = request.alpha
        asked = Asked(served, record, partial(gather_until_disconnect, receive=call.receive))
        rows = await self._inference.run(asked, request.images, costs)
        text, json_bytes = write_answer(served.model, request, rows)
        if json_bytes is None:
            return Answer(text)
        length = (HEADER_LENGTH, str(json_bytes).encode())
        return Answer(text, content_type=b"application/octet-stream", headers=[length])

    def _served(self, call: Call) -> ServingModel:
        return self._inference.served(call.name, call.version)

    async def _index(self, call: Call) -> Answer:
        ready = (await self._small_json(call)).get("ready", False)
        if not isinstance(ready, bool):
            raise Problem(400, "bad_request", "'ready' must be true or false")
        return _json(repository_index([*self._inference.repository.models.values()], ready))

    async def _load(self, call: Call) -> Answer:
        await self._check_management(call)
        await self._inference.load(call.name, call.version)
        return _json({})

    async def _unload(self, call: Call) -> Answer:
        await self._check_management(call)
        await self._inference.unload(call.name, call.version)
        return _json({})

    async def _check_management(self, call: Call) -> None:
        self._inference.check_management([])  # before the body is read
        given = object_of(await self._small_json(call), "parameters")
        self._inference.check_management([*given])

    async def _small_json(self, call: Call) -> dict[str, Any]:
        body = await read_body(call.scope, call.receive, self._small_body)
        try:
            document = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise Problem(400, "bad_request", f"the body is not JSON: {error.msg}") from error
        if not isinstance(document, dict):
            raise Problem(400, "bad_request", "the body must be a JSON object")
        return document


def _route(method: str, label: str, answer: Callable[[Call], Awaitable[Answer]]) -> Route:
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", label)
    return Route(method, label, re.compile(f"{pattern}/?"), answer)


def _of_version(verb: str) -> Sequence[str]:
    """The path that manages a whole model, and the one of a version, which Triton has not."""
    models = "/v2/repository/models/{name}"
    return f"{models}/{verb}", f"{models}/versions/{{version}}/{verb}"


def _not_allowed(method: str, allowed: Sequence[str]) -> Problem:
    problem = Problem(405, "bad_method", f"{method} is not allowed here")
    problem.headers["allow"] = allow_of(allowed)
    return problem


def _json(document: Any, status: int = 200) -> Answer:
    return Answer(as_json(document), status)
