"""Counts the bytes of gRPC messages while they arrive, and ends what there is no memory for.

gRPC gathers a message before it hands it over, says meanwhile neither how long it is nor how much
has come, and its own quota of memory cannot be set from Python. So it listens on a socket that
only this process knows, and clients are connected to it here, where every frame passes by. The
bytes of a call are held against the budget of bodies from their arrival until the call has ended.
"""

from __future__ import annotations

import asyncio
from typing import cast

from isoserve.service.batching.body_budget import BodyBudget, BodyHold
from isoserve.service.batching.errors import QueueFull
from isoserve.service.inference_protocol.http2_frames import (
    END_HEADERS,
    END_STREAM,
    PREFACE_BYTES,
    FrameHead,
    FrameType,
    FrameWalk,
    frame,
    reset_of,
)

NO_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 8, 11
"""HTTP/2's error codes (RFC 9113, section 7)."""

RESOURCE_EXHAUSTED = b"8"
"""As text, as gRPC sends it."""

MOST_STREAMS = 4096
"""Open calls of one connection; gRPC itself takes fewer, and ends those beyond."""


class GrpcRelay:
    """Takes the connections of clients and joins each to one of gRPC's own.

    Args:
        path: of the Unix socket on which gRPC listens.
        budget: of the bodies in memory; calls that find it full are refused.
        most: connections at a time; others are closed at once.
    """

    def __init__(self, path: str, budget: BodyBudget, most: int) -> None:
        self._path = path
        self._budget = budget
        self._most = most
        self._clients: set[_ClientSide] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, shared: bool) -> None:
        """Listen.

        Args:
            shared: with other processes, which listen on the same port.

        Raises:
            OSError: the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._client, host, port, reuse_port=shared or None)

    def stop_listening(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """End the connections that are left."""
        for client in [*self._clients]:
            client.close()

    def _client(self) -> _ClientSide:
        return _ClientSide(self)

    def admit(self, client: _ClientSide) -> bool:
        """Whether there is room for one more."""
        if len(self._clients) >= self._most:
            return False
        self._clients.add(client)
        return True

    def leave(self, client: _ClientSide) -> None:
        """A connection has ended."""
        self._clients.discard(client)

    @property
    def path(self) -> str:
        """Of gRPC's own socket."""
        return self._path

    def hold(self) -> BodyHold:
        """What a connection holds of the budget."""
        return BodyHold(self._budget)


class _Side(asyncio.Protocol):
    """One end of a pair; each stops reading while the other cannot write."""

    transport: asyncio.Transport | None = None
    other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is not derived

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def write(self, data: bytes) -> None:
        """Send, where there is something to."""
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)


class _ClientSide(_Side):
    """A client's connection: its streams, and the bytes that came in each."""

    def __init__(self, relay: GrpcRelay) -> None:
        self._relay = relay
        self._walk = FrameWalk(self._on_head, PREFACE_BYTES)
        self._streams: dict[int, int] = {}
        self._answered: set[int] = set()
        self._latest = 0
        self._total = 0
        self._hold = relay.hold()
        self._early = b""
        self._joining: asyncio.Task[None] | None = None
        self._server = _ServerSide(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        if not self._relay.admit(self):
            self.transport.abort()
            return
        self._joining = asyncio.get_running_loop().create_task(self._join())

    async def _join(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: self._server, self._relay.path)
        except OSError:
            self.transport.close()
            return
        self.other = self._server
        self._server.write(self._early)
        self._early = b""
        if self.transport.is_closing():
            self.close()
        else:
            self.transport.resume_reading()

    def close(self) -> None:
        """End both connections."""
        for side in (self, self._server):
            if side.transport is not None:
                side.transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._walk.feed(data)
        if self.other is None:
            assert self.transport is not None
            self.transport.pause_reading()
            self._early += data
        else:
            self._server.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._relay.leave(self)
        self._hold.release()

    def ended(self, stream: int) -> None:
        """The call needs no memory any more."""
        self._answered.discard(stream)
        self._total -= self._streams.pop(stream, 0)
        self._hold.shrink(self._total)

    def answered(self, stream: int) -> None:
        """Its answer has begun."""
        if stream in self._streams:
            self._answered.add(stream)

    def _on_head(self, head: FrameHead) -> bytes:
        if head.kind == FrameType.HEADERS and head.stream % 2 and head.stream > self._latest:
            self._latest = head.stream
            self._streams[head.stream] = 0
            if len(self._streams) > MOST_STREAMS:
                self.close()
        elif head.kind == FrameType.RST_STREAM:
            self.ended(head.stream)
        elif head.kind == FrameType.DATA and head.stream in self._streams:
            return self._charge(head)
        return b""

    def _charge(self, head: FrameHead) -> bytes:
        """Hold the frame's bytes; what the server gets to hear where they are not to be had."""
        if self._hold.released:
            return b""
        try:
            self._hold.grow(self._total + head.length)
        except QueueFull as full:
            refusal = b"" if head.stream in self._answered else _refusal(head.stream, full.detail)
            code = NO_ERROR if refusal else ENHANCE_YOUR_CALM
            self.ended(head.stream)
            self.write(self._server.walk.insert(refusal + reset_of(head.stream, code)))
            return reset_of(head.stream, CANCEL)
        self._streams[head.stream] += head.length
        self._total += head.length
        return b""


class _ServerSide(_Side):
    """gRPC's end of the pair."""

    def __init__(self, client: _ClientSide) -> None:
        self.other = self._client = client
        self.walk = FrameWalk(self._on_head)

    def data_received(self, data: bytes) -> None:
        self._client.write(self.walk.feed(data))

    def _on_head(self, head: FrameHead) -> bytes:
        if head.ends_stream:
            self._client.ended(head.stream)
        elif head.kind == FrameType.HEADERS:
            self._client.answered(head.stream)
        return b""


def _refusal(stream: int, detail: str) -> bytes:
    """gRPC's answer that consists of trailers alone; HPACK (RFC 7541) without its dynamic table,
    so that what the server sends later keeps its meaning."""
    message = "".join(c if " " <= c <= "~" and c != "%" else f"%{ord(c):02X}" for c in detail)
    fields = (
        (b"content-type", b"application/grpc"),
        (b"grpc-status", RESOURCE_EXHAUSTED),
        (b"grpc-message", message.encode("ascii")[:_LONGEST]),
    )
    block = _STATUS_200 + b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
    return frame(FrameType.HEADERS, END_STREAM | END_HEADERS, stream, block)


_STATUS_200 = b"\x88"
_LONGEST = 126
"""A length up to here is one octet of HPACK."""


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value
