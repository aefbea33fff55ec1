"""What one connection may cost before it has asked for anything: bytes of headers, and time.

uvicorn bounds neither a request's head nor the time a silent connection is kept. This protocol
adds both, and a largest number of connections, without a timer a request: a sweep now and again
looks at all of them.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.answer import problem_headers, whole_answer
from service.head import RequestHead
from service.problems import Problem, new_request_id
from service.request_record import Headers
from service.short_way import Connection, ShortExchange

BODY_PATIENCE_SECONDS = 0.2
"""A small body that takes longer to come is left to the application."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The most connections, bytes of a request's head, and seconds of silence."""

    connections: int
    header_bytes: int
    header_seconds: float
    """From the first byte of a request, or from the connection, to the end of its headers."""
    idle_seconds: float
    """Between an answer and the next request."""


class Door(Protocol):
    """What the application says of connections and of requests whose body has not been read."""

    def ended(self, reason: str) -> None:
        """A connection was ended here."""

    def refusal(self, head: RequestHead) -> tuple[Problem, str] | None:
        """Why this request would be refused whatever it brings, if it would be, and its id.

        Under overload most requests are, and this is a fifth of the work of running the
        application to find that out.
        """

    def short_way(self, head: RequestHead, connection: Connection) -> ShortExchange | None:
        """The exchange of a request that need not go through the application."""


def guarded(limits: ConnectionLimits, door: Door) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with these limits, to be given to it as ``http``."""

    class Guarded(_GuardedProtocol):
        _limits = limits
        _door = door

    return Guarded


def end_silent(server_state: ServerState) -> None:
    """End the connections whose time is up; to be called now and again on their event loop."""
    now = asyncio.get_running_loop().time()
    for connection in list(server_state.connections):
        if isinstance(connection, _GuardedProtocol) and connection.silent_until < now:
            connection.time_is_up()


class _GuardedProtocol(HttpToolsProtocol):
    _limits: ConnectionLimits
    _door: Door
    cycle: Any
    """uvicorn's RequestResponseCycle, or what stands in its place."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.silent_until = math.inf
        self._in_head = False
        self._in_body = False
        self._head_bytes = self._read_bytes = 0
        self._refusal = _MALFORMED
        self._short: ShortExchange | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.silent_until = self.loop.time() + self._limits.header_seconds
        if len(self.connections) > self._limits.connections:
            self._refusal = _TOO_MANY
            self.send_400_response("")

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._read_bytes = len(data)
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self._limits.header_bytes and not self._in_body:
            self._refusal = _HEAD_TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        # What uvicorn prepares here besides is for the application: see _run_application.
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head = True
        if self.cycle is None or self.cycle.response_complete:
            self.silent_until = self.loop.time() + self._limits.header_seconds

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._in_body = True
        if self._head_too_large():
            self._refusal = _HEAD_TOO_LARGE
            raise ValueError("the head is too large")  # the parser ends with an error on it
        if self.cycle is None or self.cycle.response_complete:
            head = RequestHead(self.parser.get_method(), self.url, self.headers)
            if self._may_go_short() and (short := self._door.short_way(head, self)):
                short.keep_alive = self.parser.should_keep_alive()
                self.silent_until = self.loop.time() + BODY_PATIENCE_SECONDS
                self.cycle = self._short = short
                return
            if refused := self._door.refusal(head):
                self._refuse(*refused)
                return
        self._run_application()

    def _head_too_large(self) -> bool:
        most = self._limits.header_bytes
        if self._head_bytes + self._read_bytes <= most:
            return False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return size > most

    def _may_go_short(self) -> bool:
        # A client that takes no answers must not make the server hold ever more of them.
        return not self.flow.write_paused and self.parser.get_http_version() == "1.1"

    def _run_application(self) -> None:
        self.silent_until = math.inf
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()
        # The application's task, made just now, has not run yet.
        self.scope["write_whole_answer"] = partial(_write_whole, self.cycle)  # type: ignore[typeddict-unknown-key]

    def _refuse(self, problem: Problem, request_id: str) -> None:
        """Answer in place of the application; the body that may follow is passed over."""
        keeps = self.parser.should_keep_alive()
        headers = [
            *self.server_state.default_headers,
            (b"x-request-id", request_id.encode()),
        ]
        self.transport.write(_problem_answer(problem, request_id, headers, closes=not keeps))
        self.cycle = _ANSWERED
        self.silent_until = self.loop.time() + self._limits.idle_seconds
        if not keeps:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        if self._short is not None and self._short is self.cycle:
            self._short.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._head_bytes = 0
        if self._short is not None and self._short is self.cycle:
            self.silent_until = math.inf
            self._short.run()
        else:
            super().on_message_complete()

    def answer_short(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the request on the short way."""
        short, self._short = self._short, None
        assert short is not None
        closes = not short.keep_alive
        named = [*self.server_state.default_headers, *headers]
        self.transport.write(whole_answer(status, named, body, closes=closes))
        short.response_complete = True
        if closes:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer of idleness: the sweep does what that is for."""
        self.server_state.total_requests += 1
        all_answered = self.cycle.response_complete
        if all_answered:
            # Or an idle connection would hold its last images and the version that judged them.
            self.cycle, self.scope = _ANSWERED, {}  # type: ignore[typeddict-item]
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        # Also for a body that was answered before it had come whole: no more is waited for it.
        if all_answered:
            self.silent_until = self.loop.time() + self._limits.idle_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        if self._short is not None:
            self._short.leave()
            # They lead to each other, and the exchange to the image.
            self._short, self.cycle = None, _ANSWERED
        super().connection_lost(exc)

    def time_is_up(self) -> None:
        """Close a connection that is idle, or whose request does not come."""
        if self._in_head:
            self._refusal = _SLOW_HEAD
            self.send_400_response("")
        elif self._short is not None:
            self._go_the_long_way(self._short)
        else:
            self.silent_until = math.inf
            self.transport.close()

    def _go_the_long_way(self, short: ShortExchange) -> None:
        """Leave a body that does not come to the application, which knows what to do with it."""
        self._short, self.cycle = None, _ANSWERED
        self._run_application()
        self.on_body(short.body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what never became a request, and close."""
        self.silent_until = math.inf
        problem = self._refusal
        self._door.ended(problem.reason)
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_problem_answer(problem, new_request_id(), [], closes=True))
        self.transport.close()


class _Answered:
    """Stands where a cycle does, for a request the application never saw."""

    response_complete = True
    disconnected = False
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


_ANSWERED: Any = _Answered()


def _problem_answer(problem: Problem, request_id: str, headers: Headers, *, closes: bool) -> bytes:
    body = problem.body(request_id)
    named = [*headers, *problem_headers(problem, body)]
    return whole_answer(problem.status, named, body, closes=closes)


def _write_whole(
    cycle: RequestResponseCycle, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Answer in one write what the cycle's ``send`` does in two; False: not now, use that.

    The headers are the application's own and known to be sound.
    """
    if (
        cycle.disconnected
        or cycle.response_started
        or cycle.flow.write_paused
        or cycle.scope["method"] == "HEAD"
    ):
        return False
    named = [*cycle.default_headers, *headers]
    cycle.transport.write(whole_answer(status, named, body, closes=not cycle.keep_alive))
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


_MALFORMED = Problem(400, "malformed_request", "this is no HTTP/1.1 request")
_HEAD_TOO_LARGE = Problem(431, "head_too_large", "the request's line and headers are too large")
_SLOW_HEAD = Problem(408, "slow_head", "the request's headers took too long to arrive")
_TOO_MANY = Problem(503, "too_many_connections", "the server has all the connections it can take")
