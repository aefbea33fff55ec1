"""A gRPC inference request taken apart before protobuf sees it.

Protobuf makes an object of some hundred bytes out of an element that takes two on the wire. So the
repeated elements that may be many or large, the tensor's data, are found by walking over the
message's fields (https://protobuf.dev/programming-guides/encoding), counted, and left where they
are; what remains is small and goes to protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from isoserve.service.errors import Problem

MOST_FIELDS = 4096
"""Of a request, those of its tensors included; a client sends some ten."""

SKELETON_BYTES = 64 * 2**10
"""What a request may have beside the data of its tensors."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_INPUTS, _RAW = 5, 7
_CONTENTS = 5
_UINT, _BYTES = 4, 8
"""Numbers of fields, as in the table of :mod:`isoserve.service.inference_protocol.messages`."""


class WireRequest(NamedTuple):
    """A ``ModelInferRequest`` and its data, which are parts of the message's own memory."""

    skeleton: bytes
    """The message without ``raw_input_contents`` and without what its tensors contain."""
    raw: list[memoryview]
    """``raw_input_contents``."""
    has_contents: bool
    """Whether a tensor has ``contents``, empty ones too."""
    uint_contents: list[memoryview]
    """Pieces of ``uint_contents``: encoded numbers, one after the other."""
    bytes_contents: list[memoryview]


def split_request(message: bytes | bytearray) -> WireRequest:
    """Take a ``ModelInferRequest`` apart.

    Raises:
        Problem: 400, it is not a protobuf message; 413, it has more fields than a request may need.
    """
    walk = _Walk(memoryview(message))
    skeleton: list[memoryview] = []
    raw: list[memoryview] = []
    contents: list[tuple[int, int]] = []
    for field in walk.fields(0, len(message)):
        if field.number == _RAW and field.kind == _LENGTH:
            raw.append(walk.view[field.start : field.end])
        elif field.number == _INPUTS and field.kind == _LENGTH:
            kept = []
            for part in walk.fields(field.start, field.end):
                if part.number == _CONTENTS and part.kind == _LENGTH:
                    contents.append((part.start, part.end))
                else:
                    kept.append(walk.view[part.tag : part.end])
            skeleton += [_length_tag(_INPUTS, sum(map(len, kept))), *kept]
        else:
            skeleton.append(walk.view[field.tag : field.end])
    if sum(map(len, skeleton)) > SKELETON_BYTES:
        raise _too_much(f"more than {SKELETON_BYTES} bytes beside the data of its tensors")
    uints: list[memoryview] = []
    files: list[memoryview] = []
    for start, end in contents:
        for part in walk.fields(start, end):
            if part.number == _BYTES and part.kind == _LENGTH:
                files.append(walk.view[part.start : part.end])
            elif part.number == _UINT and part.kind in (_LENGTH, _VARINT):
                uints.append(walk.view[part.start : part.end])
    return WireRequest(b"".join(skeleton), raw, bool(contents), uints, files)


def read_octets(pieces: list[memoryview]) -> memoryview:
    """The numbers of these pieces, as one octet each.

    Raises:
        ValueError: one lies outside 0..255, or a piece ends within one.
    """
    encoded = np.concatenate([np.frombuffer(piece, np.uint8) for piece in pieces])
    lasts = np.flatnonzero(encoded < 0x80)
    if len(lasts) == len(encoded):
        return encoded.data
    if len(lasts) == 0 or lasts[-1] != len(encoded) - 1:
        raise ValueError("the last number ends early")
    lengths = np.diff(lasts, prepend=-1)
    high = np.where(lengths == 2, encoded[lasts], 0)
    if lengths.max() > 2 or high.max() > 1:
        raise ValueError("a number is more than 255")
    low = encoded[lasts - lengths + 1] & np.uint8(0x7F)
    return (low | high << np.uint8(7)).astype(np.uint8).data


class _Field(NamedTuple):
    number: int
    kind: int
    tag: int
    """Where its tag begins."""
    start: int
    end: int


class _Walk:
    """Over the fields of a message and of those in it, as many as there may be in all."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self._left = MOST_FIELDS

    def fields(self, position: int, end: int) -> Iterator[_Field]:
        """The fields between two places."""
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise _too_much(f"more than {MOST_FIELDS} fields and elements")
            tag = position
            key, position = self._varint(position, end)
            number, kind = key >> 3, key & 7
            start = position
            if kind == _VARINT:
                _, position = self._varint(position, end)
            elif kind == _LENGTH:
                size, start = self._varint(position, end)
                position = start + size
            elif kind in (_FIXED32, _FIXED64):
                position += 4 if kind == _FIXED32 else 8
            else:
                raise _malformed()
            if position > end or number == 0:
                raise _malformed()
            yield _Field(number, kind, tag, start, position)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = 0
        for place in range(min(_LONGEST_VARINT, end - position)):
            octet = self.view[position + place]
            value |= (octet & 0x7F) << 7 * place
            if octet < 0x80:
                return value, position + place + 1
        raise _malformed()


def _length_tag(number: int, size: int) -> memoryview:
    """What stands before ``size`` bytes of a field."""
    octets = [number << 3 | _LENGTH]
    while size >= 0x80:
        octets.append(size & 0x7F | 0x80)
        size >>= 7
    return memoryview(bytes([*octets, size]))


def _malformed() -> Problem:
    return Problem(400, "bad_request", "the message is not a protobuf ModelInferRequest")


def _too_much(what: str) -> Problem:
    return Problem(
        413,
        "message_too_large",
        f"the request has {what}; send the data as raw_input_contents",
    )
