"""The calls of the Open Inference Protocol over gRPC: from a message's bytes to its answer.

Messages come as bytes: nothing is made of one before its token was checked and its size is held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from isoserve.models.card import INPUT_NAME
from isoserve.service.batching.body_budget import BodyHold
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.batching.job import gather_results
from isoserve.service.errors import Problem
from isoserve.service.inference.outputs import Pixels
from isoserve.service.inference_protocol.answers import as_binary, output_values, shape_of
from isoserve.service.inference_protocol.compression import WINDOW_BITS, inflate
from isoserve.service.inference_protocol.handler import Asked, Inference
from isoserve.service.inference_protocol.messages import MESSAGES, ONE_OF
from isoserve.service.inference_protocol.metadata import (
    DATATYPES,
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
    MOST_DIMENSIONS,
    Tensor,
    bad_tensor,
    check_shape,
    images_of,
)
from isoserve.service.inference_protocol.wire import (
    SKELETON_BYTES,
    WireRequest,
    read_octets,
    split_request,
)
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.repository.versions import ServingModel

INLINE_BYTES = 64 * 2**10
"""A larger request is read in a thread, as over HTTP."""

INFER = "ModelInfer"

PATHS = {
    "ServerLive": "/v2/health/live",
    "ServerReady": "/v2/health/ready",
    "ServerMetadata": "/v2",
    "ModelReady": "/v2/models",
    "ModelMetadata": "/v2/models",
    INFER: "/v2/models/infer",
    "RepositoryIndex": "/v2/repository/index",
    "RepositoryModelLoad": "/v2/repository/models",
    "RepositoryModelUnload": "/v2/repository/models",
}
"""Call -> the HTTP path it stands for: what may be asked without a token is set by paths."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A ``ModelInfer`` request that was read and checked."""

    served: ServingModel
    id: str
    alpha: float
    wanted: list[str]
    images: list[bytes | Pixels]
    costs: list[ImageCost]


class GrpcCalls:
    """Answers calls by their names in :data:`PATHS`."""

    def __init__(self, inference: Inference, message_bytes: int) -> None:
        self._inference = inference
        self._message_bytes = message_bytes
        self._calls: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def answer(
        self, name: str, message: bytes, record: RequestRecord, hold: BodyHold
    ) -> bytes:
        """The answer to a message, both as bytes.

        Args:
            hold: has the message's size already, and takes what it is inflated to.

        Raises:
            Problem: the call is refused.
            PredictionError: the queue is full, the server stops, or the network failed.
        """
        if name == INFER:
            answer = await self._infer(message, record, hold)
        else:
            plain = plain_message(message, min(SKELETON_BYTES, self._message_bytes), hold)
            if len(plain) > SKELETON_BYTES:
                raise Problem(
                    413, "message_too_large", f"{name} takes at most {SKELETON_BYTES} bytes"
                )
            answer = await self._calls[name](parse(name, bytes(plain)))
        octets: bytes = answer.SerializeToString()
        return octets

    async def _live(self, request: Any) -> Any:  # noqa: ARG002
        return MESSAGES["ServerLiveResponse"](live=not self._inference.stuck)

    async def _ready(self, request: Any) -> Any:  # noqa: ARG002
        return MESSAGES["ServerReadyResponse"](ready=not self._inference.repository.not_ready)

    async def _server_metadata(self, request: Any) -> Any:  # noqa: ARG002
        return MESSAGES["ServerMetadataResponse"](**server_metadata())

    async def _model_ready(self, request: Any) -> Any:
        try:
            self._inference.served(request.name, request.version or None)
        except Problem:
            return MESSAGES["ModelReadyResponse"](ready=False)
        return MESSAGES["ModelReadyResponse"](ready=True)

    async def _model_metadata(self, request: Any) -> Any:
        served = self._inference.served(request.name, request.version or None)
        return MESSAGES["ModelMetadataResponse"](**model_metadata(served.model))

    async def _infer(self, message: bytes, record: RequestRecord, hold: BodyHold) -> Any:
        def read() -> _Read:
            return self._read(message, record, hold)

        pools = self._inference.pools
        if window_bits_of(message):
            asked = await pools.inflating.run(read)
        elif len(message) > INLINE_BYTES:
            asked = await pools.parsing.run(read)
        else:
            asked = read()
        served = asked.served
        rows = await self._inference.run(
            Asked(served, record, gather_results), asked.images, asked.costs
        )
        answer = MESSAGES["ModelInferResponse"](
            model_name=served.model.name,
            model_version=str(served.model.version),
            id=asked.id,
        )
        for name in asked.wanted:
            values = output_values(name, served.model, rows, asked.alpha)
            answer.outputs.add(name=name, datatype=DATATYPES[name], shape=shape_of(values))
            answer.raw_output_contents.append(as_binary(values))
        return answer

    def _read(self, message: bytes, record: RequestRecord, hold: BodyHold) -> _Read:
        """What a request asks; from any thread."""
        inference = self._inference
        wire = split_request(plain_message(message, self._message_bytes, hold))
        request = parse("ModelInfer", wire.skeleton)
        served = inference.served(request.model_name, request.model_version or None)
        reader = inference.reader(served)
        alpha = read_alpha(_parameters(request.parameters).get("alpha", reader.alpha))
        record.set_target(served.model, alpha)
        wanted = _wanted(request, reader.outputs)
        images = images_of(_tensor(request, wire), reader.spec, reader.limits.images)
        return _Read(
            served, request.id, alpha, wanted, images, inference.check(images, reader.spec)
        )

    async def _index(self, request: Any) -> Any:
        records = [*self._inference.repository.models.values()]
        return MESSAGES["RepositoryIndexResponse"](models=repository_index(records, request.ready))

    async def _load(self, request: Any) -> Any:
        self._inference.check_management([*request.parameters])
        await self._inference.load(request.model_name)
        return MESSAGES["RepositoryModelLoadResponse"]()

    async def _unload(self, request: Any) -> Any:
        self._inference.check_management([*request.parameters])
        await self._inference.unload(request.model_name)
        return MESSAGES["RepositoryModelUnloadResponse"]()


def window_bits_of(message: bytes) -> int:
    """zlib's name for the compression of a message; 0 for none.

    gRPC says in a flag that Python does not see whether a message is compressed. No message of this
    service begins so: gzip's first octet would be a field of a kind that does not exist, and
    deflate's a number in field 15, which no request has.
    """
    if message[:2] == b"\x1f\x8b":
        return WINDOW_BITS[b"gzip"]
    if message[:1] == b"\x78" and int.from_bytes(message[:2]) % 31 == 0:
        return WINDOW_BITS[b"deflate"]
    return 0


def plain_message(message: bytes, limit: int, hold: BodyHold) -> bytes | bytearray:
    """The message, inflated where it is compressed.

    Raises:
        Problem: 400 for broken data, 413 over the limit, 429 over the budget.
    """
    window_bits = window_bits_of(message)
    if not window_bits:
        return message
    return inflate(message, window_bits, min(limit, hold.inflated_limit), hold.inflate)


def parse(name: str, message: bytes) -> Any:
    """The request of a call.

    Raises:
        Problem: 400, it is none.
    """
    try:
        return MESSAGES[f"{name}Request"].FromString(message)
    except DecodeError as error:
        raise Problem(400, "bad_request", f"the message is not a protobuf {name}Request") from error


def _parameters(given: Any) -> dict[str, Any]:
    """A map of InferParameter as plain values."""
    chosen = {name: (value, value.WhichOneof(ONE_OF)) for name, value in given.items()}
    return {name: getattr(value, one) for name, (value, one) in chosen.items() if one}


def _wanted(request: Any, known: Sequence[str]) -> list[str]:
    names = [output.name for output in request.outputs[: len(known) + 1]]
    check_outputs(names, known)
    for output in request.outputs:
        check_supported(output.name, [*output.parameters], UNSUPPORTED_OUTPUT)
    return names or [*known]


def _tensor(request: Any, wire: WireRequest) -> Tensor:
    """The one input, its data raw or typed."""
    if len(request.inputs) != 1:
        raise Problem(
            400, "bad_request", f"{len(request.inputs)} inputs; the model has one, '{INPUT_NAME}'"
        )
    declared = request.inputs[0]
    check_supported(declared.name, [*declared.parameters], UNSUPPORTED_INPUT)
    shape = check_shape(declared.name, list(declared.shape[: MOST_DIMENSIONS + 1]))
    raw = wire.raw
    if len(raw) > 1 or (len(raw) == 1 and wire.has_contents):
        raise bad_tensor(declared.name, "its data is given more than once")
    data = raw[0] if raw else _typed(declared, wire)
    return Tensor(declared.name, declared.datatype, shape, data)


def _typed(declared: Any, wire: WireRequest) -> memoryview | list[Any]:
    """Typed contents: octets, or the files' places in the message."""
    if declared.datatype == "BYTES":
        return [*wire.bytes_contents]
    try:
        return read_octets(wire.uint_contents) if wire.uint_contents else memoryview(b"")
    except ValueError as error:
        raise bad_tensor(declared.name, "a UINT8 value lies outside 0..255") from error
