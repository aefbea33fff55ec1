"""The Open Inference Protocol over gRPC, on a port and in an event loop shared with HTTP.

Imported only where ``grpc_port`` is set: it wants ``pip install 'isoserve[grpc]'``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
from starlette.types import Message

from isoserve.models.card import INPUT_NAME
from isoserve.service.auth import Guard
from isoserve.service.errors import Problem
from isoserve.service.inference.model import Pixels
from isoserve.service.inference_protocol.answers import as_binary, output_values, shape_of
from isoserve.service.inference_protocol.handler import Asked, Inference
from isoserve.service.inference_protocol.messages import MESSAGES, ONE_OF, SERVICE
from isoserve.service.inference_protocol.metadata import (
    OUTPUTS,
    model_metadata,
    repository_index,
    server_metadata,
)
from isoserve.service.inference_protocol.requests import (
    UNSUPPORTED_INPUT,
    UNSUPPORTED_OUTPUT,
    check_outputs,
    check_supported,
    read_alpha,
)
from isoserve.service.inference_protocol.tensors import (
    LENGTH,
    MOST_DIMENSIONS,
    Tensor,
    bad_tensor,
    check_shape,
    images_of,
)
from isoserve.service.observability.log_writer import about
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import Headers, RequestRecord
from isoserve.service.settings import Settings

log = logging.getLogger("isoserve.grpc")

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

INLINE_BYTES = 64 * 2**10
"""The images of a larger request are checked in a thread, as over HTTP."""

SPARE_BYTES = 64 * 2**10
"""What a message may have beside its images."""

PATHS = {
    "ServerLive": "/v2/health/live",
    "ServerReady": "/v2/health/ready",
    "ServerMetadata": "/v2",
    "ModelReady": "/v2/models",
    "ModelMetadata": "/v2/models",
    "ModelInfer": "/v2/models",
    "RepositoryIndex": "/v2/repository/index",
    "RepositoryModelLoad": "/v2/repository/models",
    "RepositoryModelUnload": "/v2/repository/models",
}
"""Call -> the HTTP path it stands for: what may be asked without a token is set by paths."""

INFER = "grpc ModelInfer"
"""A call's route in metrics is named like this."""

METHOD = "POST"
"""Of HTTP, under every gRPC call."""

Call = Callable[[Any, RequestRecord], Awaitable[Any]]


class GrpcServer:
    """Started and stopped on the event loop that answers HTTP."""

    def __init__(
        self,
        settings: Settings,
        inference: Inference,
        observer: RequestObserver,
        guard: Guard | None,
    ) -> None:
        self._settings = settings
        self._inference = inference
        self._observer = observer
        self._guard = guard
        self._server: Any = None

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the port cannot be had.
        """
        settings = self._settings
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_connections,
            options=[
                ("grpc.max_receive_message_length", settings.max_batch_body_bytes + SPARE_BYTES),
                ("grpc.so_reuseport", int(settings.workers > 1)),
            ],
        )
        handlers = {name: self._handler(name) for name in PATHS}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        await self._server.start()

    async def stop(self) -> None:
        """Take no more calls and finish those that run."""
        await self._server.stop(grace=self._settings.grace_seconds)

    def _handler(self, name: str) -> Any:
        calls: dict[str, Call] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return grpc.unary_unary_rpc_method_handler(
            self._answered(name, calls[name]),
            request_deserializer=MESSAGES[f"{name}Request"].FromString,
            response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
        )

    def _answered(self, name: str, call: Call) -> Callable[[Any, Any], Awaitable[Any]]:
        """The call, its token checked, its problems made status codes, its end told."""
        route = f"grpc {name}"

        async def answer(request: Any, context: Any) -> Any:
            headers = _headers(context)
            record = RequestRecord(request_id_of(headers), METHOD, headers)
            record.route = route
            record.status = 200
            context.set_trailing_metadata((("x-request-id", record.id),))
            try:
                self._check_token(name, headers)
                return await call(request, record)
            except Problem as problem:
                record.status, record.reason = problem.status, problem.reason
                code = CODES.get(problem.status, grpc.StatusCode.INTERNAL)
                _refuse(context, code, problem.detail)
            except asyncio.CancelledError:
                record.status = CLIENT_GONE
                raise
            except Exception:
                record.status = 500
                log.exception("%s failed", name, extra=about(record.id))
                _refuse(context, grpc.StatusCode.INTERNAL, "the server failed")
            finally:
                record.seconds = perf_counter() - record.started
                self._observer(record)

        return answer

    def _check_token(self, name: str, headers: Headers) -> None:
        if self._guard is None:
            return
        if not self._guard.is_authorized({"path": PATHS[name], "headers": headers}):
            raise Problem(401, "unauthorised", "send the metadata 'authorization: Bearer TOKEN'")

    async def _live(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        return MESSAGES["ServerReadyResponse"](ready=self._inference.repository.ready)

    async def _server_metadata(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        return MESSAGES["ServerMetadataResponse"](**server_metadata())

    async def _model_ready(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        try:
            self._inference.served(request.name, request.version or None)
        except Problem:
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=True)

    async def _model_metadata(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        served = self._inference.served(request.name, request.version or None)
        return MESSAGES["ModelMetadataResponse"](**model_metadata(served.model))

    async def _infer(self, request: Any, record: RequestRecord) -> Any:
        inference = self._inference
        served = inference.served(request.model_name, request.model_version or None)
        reader = inference.reader(served)
        alpha = read_alpha(_parameters(request.parameters).get("alpha", reader.alpha))
        record.set_target(served, alpha)
        wanted = _wanted(request)

        def read() -> tuple[list[bytes | Pixels], list[bool]]:
            images = images_of(_tensor(request), reader.spec, reader.limits.images)
            return images, inference.check(images)

        inline = request.ByteSize() <= INLINE_BYTES
        images, large = read() if inline else await asyncio.to_thread(read)
        rows = await inference.run(Asked(served, record, _never), images, large)
        answer = MESSAGES["ModelInferResponse"](
            model_name=served.model.name,
            model_version=str(served.model.version),
            id=request.id,
        )
        for name in wanted:
            values = output_values(name, served.model, rows, alpha)
            answer.outputs.add(name=name, datatype=OUTPUTS[name], shape=shape_of(values))
            answer.raw_output_contents.append(as_binary(values))
        return answer

    async def _index(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        records = [*self._inference.repository.models.values()]
        return MESSAGES["RepositoryIndexResponse"](models=repository_index(records, request.ready))

    async def _load(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        self._inference.check_management([*request.parameters])
        await self._inference.load(request.model_name)
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, request: Any, record: RequestRecord) -> Any:  # noqa: ARG002
        self._inference.check_management([*request.parameters])
        await self._inference.unload(request.model_name)
        return MESSAGES["RepositoryModelUnloadResponse"]()


def _refuse(context: Any, code: grpc.StatusCode, detail: str) -> None:
    """As ``context.abort``, whose exception would hold the context and the call's frames, and
    the context it."""
    context.set_code(code)
    context.set_details(detail)


def _headers(context: Any) -> Headers:
    """The call's metadata as HTTP has them."""
    return [
        (key.encode(), value.encode() if isinstance(value, str) else value)
        for key, value in context.invocation_metadata()
    ]


async def _never() -> Message:
    """No message comes: gRPC cancels the call itself when its client leaves."""
    await asyncio.Event().wait()
    raise AssertionError


def _parameters(given: Any) -> dict[str, Any]:
    """A map of InferParameter as plain values."""
    chosen = {name: (value, value.WhichOneof(ONE_OF)) for name, value in given.items()}
    return {name: getattr(value, one) for name, (value, one) in chosen.items() if one}


def _wanted(request: Any) -> list[str]:
    names = [output.name for output in request.outputs[: len(OUTPUTS) + 1]]
    check_outputs(names)
    for output in request.outputs:
        check_supported(output.name, [*output.parameters], UNSUPPORTED_OUTPUT)
    return names or [*OUTPUTS]


def _tensor(request: Any) -> Tensor:
    """The one input, its data raw or typed."""
    if len(request.inputs) != 1:
        raise Problem(
            400, "bad_request", f"{len(request.inputs)} inputs; the model has one, '{INPUT_NAME}'"
        )
    declared = request.inputs[0]
    check_supported(declared.name, [*declared.parameters], UNSUPPORTED_INPUT)
    shape = check_shape(declared.name, list(declared.shape[: MOST_DIMENSIONS + 1]))
    raw = request.raw_input_contents
    if len(raw) > 1 or (len(raw) == 1 and declared.HasField("contents")):
        raise bad_tensor(declared.name, "its data is given more than once")
    data = raw[0] if raw else _typed(declared)
    return Tensor(declared.name, declared.datatype, shape, memoryview(data))


def _typed(declared: Any) -> bytes:
    """Typed contents, as raw contents would have them."""
    contents = declared.contents
    if declared.datatype == "BYTES":
        return b"".join(LENGTH.pack(len(each)) + each for each in contents.bytes_contents)
    try:
        return bytes(contents.uint_contents)
    except ValueError as error:
        raise bad_tensor(declared.name, "a UINT8 value lies outside 0..255") from error
