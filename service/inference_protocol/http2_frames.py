"""The frames of an HTTP/2 connection as they pass by (RFC 9113, section 4).

Only their heads are read: who looks on learns which stream a frame belongs to and how long it is,
and may put frames of its own between two others.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

PREFACE_BYTES = 24
"""What a client sends before its first frame."""

HEAD_BYTES = 9
END_STREAM = 0x1
END_HEADERS = 0x4


class FrameType(IntEnum):
    """Those that matter to who counts the bytes of streams."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    PUSH_PROMISE = 5
    CONTINUATION = 9


class FrameHead(NamedTuple):
    """What a frame begins with."""

    length: int
    """Of what follows, in bytes."""
    kind: int
    flags: int
    stream: int

    @property
    def ends_stream(self) -> bool:
        """Whether its sender sends no more in this stream."""
        with_flag = self.kind in (FrameType.DATA, FrameType.HEADERS) and self.flags & END_STREAM
        return bool(with_flag) or self.kind == FrameType.RST_STREAM

    @property
    def opens_block(self) -> bool:
        """Whether only frames that continue it may follow."""
        blocks = (FrameType.HEADERS, FrameType.PUSH_PROMISE, FrameType.CONTINUATION)
        return self.kind in blocks and not self.flags & END_HEADERS


class FrameWalk:
    """One direction of a connection.

    Args:
        on_head: called with each frame's head before the frame goes on; what it returns is put
            before that frame.
        preface: bytes that come before the first frame.
    """

    def __init__(self, on_head: Callable[[FrameHead], bytes], preface: int = 0) -> None:
        self._on_head = on_head
        self._left = preface
        self._begun = b""
        self._in_block = False
        self._inserted = b""

    def feed(self, received: bytes) -> bytes:
        """What goes on of the bytes that have come; a head only when it is whole."""
        data = self._begun + received
        pieces: list[bytes] = []
        start, at, size = 0, 0, len(data)
        while True:
            step = min(self._left, size - at)
            at += step
            self._left -= step
            if self._left or size - at < HEAD_BYTES:
                break
            head = FrameHead(
                int.from_bytes(data[at : at + 3]),
                data[at + 3],
                data[at + 4],
                int.from_bytes(data[at + 5 : at + HEAD_BYTES]) & 0x7FFFFFFF,
            )
            inserted = self._take() + self._on_head(head)
            if inserted:
                pieces += (data[start:at], inserted)
                start = at
            self._in_block = head.opens_block
            self._left = head.length
            at += HEAD_BYTES
        self._begun = data[at:]
        rest, inserted = data[start:at], self._take()
        return b"".join((*pieces, rest, inserted)) if pieces or inserted else rest

    def insert(self, frames: bytes) -> bytes:
        """What of ``frames`` can go on at once; the rest does when the present frame has ended."""
        self._inserted += frames
        return self._take()

    def _take(self) -> bytes:
        if self._left or self._in_block:
            return b""
        taken, self._inserted = self._inserted, b""
        return taken


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame's bytes."""
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


def reset_of(stream: int, code: int) -> bytes:
    """The frame that ends a stream from either side."""
    return frame(FrameType.RST_STREAM, 0, stream, code.to_bytes(4))
