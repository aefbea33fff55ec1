"""Input tensors -> images: pixels at the model's size, or encoded image files."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from isoserve.models.card import INPUT_NAME, InputSpec
from isoserve.models.text import pluralize
from isoserve.service.errors import Problem
from isoserve.service.inference.outputs import Pixels

MOST_DIMENSIONS = 8
LENGTH = struct.Struct("<I")
"""What stands before each element of a binary BYTES tensor."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input as it came.

    ``data``: the JSON value of ``data``, flat or nested, or the tensor's part of the binary body,
    or of gRPC's typed BYTES contents a list of their places in the message;
    ``base64``: the strings of a JSON BYTES tensor are base64 (MLServer's ``content_type``).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | memoryview
    base64: bool = False


def check_shape(name: str, shape: object) -> tuple[int, ...]:
    """The shape of a tensor as it was declared.

    Raises:
        Problem: 400, not a list of a few whole numbers of at least 0.
    """
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise bad_tensor(name, "its shape must be a list of whole numbers of at least 0")
    if len(shape) > MOST_DIMENSIONS:
        raise bad_tensor(name, f"it has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
    return tuple(shape)


def images_of(tensor: Tensor, spec: InputSpec, most: int) -> list[bytes | Pixels]:
    """The images of the one input.

    Args:
        tensor: ``images``, UINT8 [N, H, W, 3] or BYTES [N] (or [N, 1]).
        spec: the model's input.
        most: how many images a request may have.

    Returns:
        Of UINT8 a view of the data for each image, uint8 [H, W, 3]; of BYTES the encoded files.

    Raises:
        Problem: 400, another name, datatype, shape or amount of data; 413, too many images.
    """
    if tensor.name != INPUT_NAME:
        raise bad_tensor(tensor.name, f"the model has no such input; it has '{INPUT_NAME}'")
    if tensor.datatype == "UINT8":
        _check_images(tensor, most, (spec.height, spec.width, 3))
        shape = (tensor.shape[0], spec.height, spec.width, 3)
        return list(np.frombuffer(_octets(tensor), dtype=np.uint8).reshape(shape))
    if tensor.datatype == "BYTES":
        _check_images(tensor, most, tensor.shape[1:] if tensor.shape[1:] == (1,) else ())
        return _files(tensor)
    raise bad_tensor(
        tensor.name,
        f"datatype '{tensor.datatype[:32]}' is not taken: send UINT8 pixels or BYTES image files",
    )


def bad_tensor(name: str, what: str) -> Problem:
    """The refusal of one tensor."""
    return Problem(400, "bad_tensor", f"tensor '{name[:64]}': {what}")


def _check_images(tensor: Tensor, most: int, image: tuple[int, ...]) -> None:
    if len(tensor.shape) == 0 or tensor.shape[1:] != image:
        wanted = ", ".join(["N", *map(str, image)])
        raise bad_tensor(
            tensor.name,
            f"its shape is {list(tensor.shape)}; the model takes {tensor.datatype} [{wanted}]",
        )
    if tensor.shape[0] == 0:
        raise bad_tensor(tensor.name, "it holds no image")
    if tensor.shape[0] > most:
        raise Problem(413, "too_many_images", f"at most {pluralize(most, 'image')} a request")


def _octets(tensor: Tensor) -> bytes | memoryview:
    """The data of a UINT8 tensor, of the size its shape says."""
    size = math.prod(tensor.shape)
    if isinstance(tensor.data, memoryview):
        if len(tensor.data) != size:
            raise bad_tensor(
                tensor.name, f"{len(tensor.data)} bytes of binary data; its shape says {size}"
            )
        return tensor.data
    values = _flat(tensor, int)
    try:
        return bytes(values)
    except ValueError as error:
        raise bad_tensor(tensor.name, "a UINT8 value lies outside 0..255") from error


def _files(tensor: Tensor) -> list[bytes | Pixels]:
    if isinstance(tensor.data, memoryview):
        return [bytes(element) for element in _elements(tensor, tensor.data)]
    if tensor.data and type(tensor.data[0]) is memoryview:
        return [bytes(element) for element in _flat(tensor, memoryview)]
    texts: list[str] = _flat(tensor, str)
    if not tensor.base64:
        return [text.encode() for text in texts]
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError) as error:
        raise bad_tensor(tensor.name, "an element is not base64") from error


def _elements(tensor: Tensor, data: memoryview) -> Iterator[memoryview]:
    start = 0
    for place in range(tensor.shape[0]):
        begin = start + LENGTH.size
        if begin > len(data):
            raise bad_tensor(
                tensor.name, f"its binary data holds {place} of {tensor.shape[0]} elements"
            )
        start = begin + LENGTH.unpack_from(data, start)[0]
        if start > len(data):
            raise bad_tensor(tensor.name, f"element {place} goes beyond the tensor's binary data")
        yield data[begin:start]
    if start != len(data):
        raise bad_tensor(tensor.name, f"{len(data) - start} bytes follow its last element")


def _flat(tensor: Tensor, kind: type[Any]) -> list[Any]:
    """JSON data, flat or nested as the shape says, as one list in row-major order."""
    assert isinstance(tensor.data, list)
    level, depth = tensor.data, 0
    size = math.prod(tensor.shape)
    while set(map(type, level)) == {list} and depth < len(tensor.shape):
        lengths = set(map(len, level))
        depth += 1
        if lengths != set(tensor.shape[depth : depth + 1]):
            raise bad_tensor(
                tensor.name, f"its data is not nested as its shape {list(tensor.shape)} says"
            )
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {kind}:
        wanted = "whole numbers" if kind is int else "strings"
        raise bad_tensor(tensor.name, f"the data of a {tensor.datatype} tensor must be {wanted}")
    if len(level) != size:
        raise bad_tensor(tensor.name, f"{len(level)} values of data; its shape says {size}")
    return level
