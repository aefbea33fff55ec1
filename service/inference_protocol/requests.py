"""An inference request: its JSON, and the binary tensors that may follow it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from isoserve.models.card import InputSpec
from isoserve.service.errors import Problem
from isoserve.service.inference.outputs import Pixels
from isoserve.service.inference_protocol.tensors import Tensor, bad_tensor, check_shape, images_of

SPARE_VALUES = 4096
"""JSON values a request may have beyond its pixels."""

VALUE_BYTES, CONTAINER_BYTES, WIDEST_CHARACTER = 16, 88, 4
"""What a value, a list or object, and a character of a text cost in memory, about and at most."""

PARSED_BYTES = 64 * 2**20
"""Most bytes that a request's JSON may cost in memory."""

UNSUPPORTED_INPUT = ("shared_memory_region",)
UNSUPPORTED_OUTPUT = ("shared_memory_region", "classification")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most images of a request, and the most bytes of its JSON."""

    images: int
    json_bytes: int


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output the client asked for, and whether as binary data."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a client asks.

    ``id``: echoed; None when none was given. ``alpha``: out-of-distribution where p_value is at
    most this. ``images``: encoded files, or pixels, uint8 [H, W, 3].
    """

    id: str | None
    alpha: float
    outputs: list[WantedOutput]
    images: list[bytes | Pixels]


@dataclass(frozen=True, slots=True)
class RequestReader:
    """Reads the requests to one model.

    ``alpha`` is the one of requests that give none; ``outputs`` are the names of all there are.
    """

    spec: InputSpec
    limits: RequestLimits
    alpha: float
    outputs: tuple[str, ...]

    def read(self, body: bytes | bytearray, header_length: int | None) -> InferenceRequest:
        """Parse and check a whole body.

        Args:
            body: the JSON, and after it the binary data of its tensors, in their order.
            header_length: bytes of the JSON; None when the body is nothing else.

        Raises:
            Problem: 400 for what the protocol or the model does not allow, 413 over a limit.
        """
        view = memoryview(body)
        length = len(body) if header_length is None else header_length
        document = self._json(view[:length])
        parameters = object_of(document, "parameters")
        inputs = _objects(document, "inputs")
        if len(inputs) != 1:
            raise _bad(f"'inputs' has {len(inputs)} tensors; the model has one input")
        tensor = read_tensor(inputs[0], view[length:])
        request_id = document.get("id")
        if not isinstance(request_id, str | None):
            raise _bad("'id' must be a string")
        return InferenceRequest(
            request_id,
            read_alpha(parameters.get("alpha", self.alpha)),
            self._outputs(document, _flag(parameters, "binary_data_output")),
            images_of(tensor, self.spec, self.limits.images),
        )

    def _outputs(self, document: dict[str, Any], binary_by_default: bool) -> list[WantedOutput]:
        """The outputs asked for; all of them when none is named."""
        declared = _objects(document, "outputs") if document.get("outputs") else []
        names = [each.get("name") for each in declared[: len(self.outputs) + 1]]
        if not all(isinstance(name, str) for name in names):
            raise _bad("an output must have a 'name', a string")
        check_outputs([str(name) for name in names], self.outputs)
        wanted = []
        for name, each in zip(names, declared, strict=True):
            parameters = object_of(each, "parameters")
            check_supported(str(name), parameters, UNSUPPORTED_OUTPUT)
            binary = "binary_data" not in parameters and binary_by_default
            wanted.append(WantedOutput(str(name), binary or _flag(parameters, "binary_data")))
        return wanted or [WantedOutput(name, binary_by_default) for name in self.outputs]

    def _json(self, text: memoryview) -> dict[str, Any]:
        limit = self.limits.json_bytes
        if len(text) > limit:
            raise Problem(
                413,
                "json_too_large",
                f"the JSON has {len(text)} bytes, more than {limit}; send binary tensors",
            )
        octets = bytes(text)
        values, containers = octets.count(b","), octets.count(b"[") + octets.count(b"{")
        pixels = self.limits.images * self.spec.height * self.spec.width * 3
        if values + containers > 2 * pixels + SPARE_VALUES:
            raise Problem(413, "json_too_large", "the JSON has more values than images could have")
        # A list costs forty times its two brackets once parsed, so they are counted before.
        size = values * VALUE_BYTES + containers * CONTAINER_BYTES
        size += len(octets) * (1 if octets.isascii() else WIDEST_CHARACTER)
        if size > PARSED_BYTES:
            raise Problem(
                413,
                "json_too_large",
                f"the JSON would take some {size >> 20} MiB once read, more than "
                f"{PARSED_BYTES >> 20}; send binary tensors",
            )
        try:
            document = orjson.loads(octets)
        except orjson.JSONDecodeError as error:
            raise _bad(f"the request is not JSON: {error.msg}") from error
        if not isinstance(document, dict):
            raise _bad("the request must be a JSON object")
        return document


def read_header_length(value: bytes | None, body_length: int) -> int | None:
    """The bytes of JSON before the binary data, from ``Inference-Header-Content-Length``.

    Raises:
        Problem: 400, not a whole number, or beyond the body.
    """
    if value is None:
        return None
    length = int(value) if value.isdigit() and len(value) <= 18 else -1
    if not 0 < length <= body_length:
        shown = value[:32].decode("latin-1")
        raise _bad(
            f"Inference-Header-Content-Length is '{shown}'; it must be a whole number of at least "
            f"1 and at most the body's length ({body_length})"
        )
    return length


def read_tensor(declared: dict[str, Any], binary: memoryview) -> Tensor:
    """The one input tensor, of which ``binary`` is all that follows the JSON.

    Raises:
        Problem: 400, its fields are not the protocol's, or the binary data is not all its own.
    """
    name, datatype = declared.get("name"), declared.get("datatype")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise _bad("an input must have a 'name' and a 'datatype', both strings")
    shape = check_shape(name, declared.get("shape"))
    parameters = object_of(declared, "parameters")
    check_supported(name, parameters, UNSUPPORTED_INPUT)
    size = parameters.get("binary_data_size")
    if size is None:
        data = declared.get("data")
        if not isinstance(data, list):
            raise bad_tensor(name, "it has neither a list 'data' nor a 'binary_data_size'")
        size, base64 = 0, parameters.get("content_type") == "base64"
        tensor = Tensor(name, datatype, shape, data, base64)
    else:
        tensor = Tensor(name, datatype, shape, binary)
    if type(size) is not int or size != len(binary):
        shown = f"{size}"[:32] if type(size) is int else "no whole number"
        raise bad_tensor(name, f"binary_data_size is {shown}; {len(binary)} bytes follow the JSON")
    if size and declared.get("data"):
        raise bad_tensor(name, "its data is given twice, as 'data' and as binary data")
    return tensor


def read_alpha(value: object) -> float:
    """The parameter ``alpha``.

    Raises:
        Problem: 400, not a number between 0 and 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise _bad("the parameter 'alpha' must lie between 0 and 1, both excluded")
    return float(value)


def object_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; empty when it is not there.

    Raises:
        Problem: 400, it is something else.
    """
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"'{name}' must be an object")
    return value


def check_outputs(names: list[str], known: Sequence[str]) -> None:
    """Refuse outputs that are not there, or twice.

    Raises:
        Problem: 400.
    """
    for place, name in enumerate(names):
        if name not in known:
            raise bad_tensor(name, f"the model has no such output; it has {', '.join(known)}")
        if name in names[:place]:
            raise bad_tensor(name, "the output is asked for twice")


def check_supported(name: str, parameters: Iterable[str], unsupported: Sequence[str]) -> None:
    """Refuse a tensor's parameters that would change what it means.

    Raises:
        Problem: 400.
    """
    for parameter in parameters:
        if parameter in unsupported:
            raise bad_tensor(name, f"the parameter '{parameter}' is not supported")


def _flag(parameters: dict[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise _bad(f"the parameter '{name}' must be true or false")
    return value


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _bad(f"'{name}' must be a list of objects")
    return value


def _bad(detail: str) -> Problem:
    return Problem(400, "bad_request", detail)
