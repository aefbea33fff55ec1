"""What one connection may cost before it has asked for anything: bytes of headers, and time.

uvicorn bounds neither a request's head nor the time a silent connection is kept. This protocol
adds both, and a largest number of connections, without a timer a request: a sweep now and again
looks at all of them.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from isoserve.service.errors import Problem
from isoserve.service.http.connection_end import (
    BAD_HOST,
    HEAD_TOO_LARGE,
    MALFORMED,
    SLOW_HEAD,
    TOO_MANY,
    TOO_MANY_PIPELINED,
    UNKNOWN_CODING,
    EndingHttpProtocol,
)
from isoserve.service.http.fast_exchange import COMPLETED, FastPathExchange
from isoserve.service.http.hooks import ConnectionHooks, ConnectionLimits
from isoserve.service.http.request_head import DISCARDED_HEADERS, RequestHead
from isoserve.service.http.responses import problem_answer, whole_answer
from isoserve.service.observability.request_record import Headers

TRANSFER_CODING = b"transfer-encoding"

BODY_PATIENCE_SECONDS = 0.2
"""A small body that takes longer to come is left to the application."""

MOST_PIPELINED = 8
"""Requests that may wait on one connection for the answers before theirs."""

SPARE_CONNECTIONS = 64
"""Past the most connections, where none of them is idle: for probes, and to say that it is full."""

PROBES = (b"/healthz/", b"/v2/health/")
"""Beginnings of the targets that are answered however full the server is."""


def limited_protocol(limits: ConnectionLimits, hooks: ConnectionHooks) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with these limits, to be given to it as ``http``."""

    class BoundProtocol(LimitedHttpProtocol):
        _limits = limits
        _hooks = hooks

    BoundProtocol._idle = OrderedDict()
    return BoundProtocol


def close_expired(server_state: ServerState) -> None:
    """End the connections whose time is up; to be called now and again on their event loop."""
    now = asyncio.get_running_loop().time()
    for connection in list(server_state.connections):
        if not isinstance(connection, LimitedHttpProtocol):
            continue
        if connection.silent_until < now:
            connection.on_deadline()
        elif connection.unread_until < now:
            connection.transport.abort()


class LimitedHttpProtocol(EndingHttpProtocol):
    _idle: OrderedDict[LimitedHttpProtocol, None]
    """Connections on which nothing is asked, those first that are so for the longest time."""
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
        self.silent_until = self.unread_until = math.inf
        self._in_head = self._in_body = self._probes_only = False
        self._head_bytes = self._read_bytes = 0
        self._refusal = MALFORMED
        self._fast: FastPathExchange | None = None
        self._running: Any = COMPLETED
        self._reading: Any = COMPLETED
        self._half_closed: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.silent_until = self.loop.time() + self._limits.header_seconds
        self._idle[self] = None
        excess = len(self.connections) - self._limits.connections
        if excess <= 0:
            return
        idlest = next(iter(self._idle))
        if idlest is not self:
            idlest.make_room()
        elif excess > SPARE_CONNECTIONS:
            self._refusal = TOO_MANY
            self.send_400_response("")
        else:
            self._probes_only = True

    def make_room(self) -> None:
        """Close this connection, which nothing was asked on for the longest time."""
        self._hooks.ended("idle")
        del self._idle[self]
        self._end()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._read_bytes = len(data)
        if not self._in_body:
            self._head_bytes += len(data)
        self._feed(data)
        if self._head_bytes > self._limits.header_bytes and not self._in_body:
            self._refusal = HEAD_TOO_LARGE
            self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                if self._refusal is not TOO_MANY_PIPELINED:
                    self.send_400_response("")
                return
            else:
                return

    def _without_upgrade(self) -> bytes:
        """The head once more without the wish for another protocol, for a parser of its own.

        The parser takes what follows such a head for the other protocol; it is this one's body
        and next request.
        """
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"".join((*lines, b"\r\n"))

    def on_message_begin(self) -> None:
        # What uvicorn prepares here besides is for the application: see _run_application.
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head = True
        self._idle.pop(self, None)
        if self.cycle is None or self.cycle.response_complete:
            self.silent_until = self.loop.time() + self._limits.header_seconds

    def on_headers_complete(self) -> None:
        self._in_head = False
        is_newest = self.parser.get_http_version() == "1.1"
        if self._head_too_large():
            self._refusal = HEAD_TOO_LARGE
            raise ValueError("the head is too large")  # the parser ends with an error on it
        if self._probes_only and not self.url.startswith(PROBES):
            self._refusal = TOO_MANY
            raise ValueError("only probes are answered now")
        names = [name for name, _ in self.headers]
        if b"transfer-encoding" in names:
            self._check_coding()
        hosts = names.count(b"host")
        if hosts != 1 and (hosts or is_newest):
            self._refusal = BAD_HOST
            raise ValueError("it is not clear which host this is for")
        head = None
        # A client that takes no answers must not make the server hold ever more of them.
        if (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused:
            head = RequestHead(self.parser.get_method(), self.url, self.headers)
            if is_newest and (fast := self._hooks.fast_path(head, self)):
                self._in_body = True
                fast.keep_alive = self.parser.should_keep_alive()
                self.silent_until = self.loop.time() + BODY_PATIENCE_SECONDS
                self.cycle = self._fast = fast
                return
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is not a proxy")
            return  # it comes again: see _without_upgrade
        self._in_body = True
        if head is not None and (refused := self._hooks.refusal(head)):
            self._refuse(*refused)
        else:
            self._run_application()
        # Trailers are no headers, and there is no bound to them.
        self.headers = DISCARDED_HEADERS

    def _check_coding(self) -> None:
        codings = [value.strip().lower() for name, value in self.headers if name == TRANSFER_CODING]
        if codings != [b"chunked"]:
            self._refusal = UNKNOWN_CODING
            raise ValueError("a body is chunked, or it is as it is")

    def _take_no_more(self) -> None:
        """Answer what waits; with the last one's answer the connection ends."""
        self._hooks.ended(TOO_MANY_PIPELINED.reason)
        self._refusal = TOO_MANY_PIPELINED
        self.cycle.keep_alive = False
        self.flow.pause_reading()
        self.flow.read_paused = False  # so that nobody resumes it

    def _head_too_large(self) -> bool:
        most = self._limits.header_bytes
        if self._head_bytes + self._read_bytes <= most:
            return False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return size > most

    def _run_application(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._take_no_more()
            raise ValueError("too many requests wait for the answers before theirs")
        self.silent_until = math.inf
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()
        self._reading = self.cycle

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, problem: Problem, request_id: str) -> None:
        """Answer in place of the application; the body that may follow is passed over."""
        keeps = self.parser.should_keep_alive()
        headers = [
            *self.server_state.default_headers,
            (b"x-request-id", request_id.encode()),
        ]
        self.transport.write(problem_answer(problem, request_id, headers, closes=not keeps))
        self.cycle = COMPLETED
        self._idle[self] = None
        self.silent_until = self.loop.time() + self._limits.idle_seconds
        self.slow_down(problem.status)
        if not keeps:
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        if self._fast is not None and self._fast is self.cycle:
            self._fast.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._reading = COMPLETED
        self._head_bytes = 0
        if self._fast is not None and self._fast is self.cycle:
            self.silent_until = math.inf
            self._fast.run()
        else:
            super().on_message_complete()

    def write_fast_path(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the request on the fast path."""
        fast, self._fast = self._fast, None
        assert fast is not None
        closes = not fast.keep_alive
        named = [*self.server_state.default_headers, *headers]
        self.transport.write(whole_answer(status, named, body, closes=closes))
        fast.response_complete = True
        if closes:
            self.transport.close()
        self.on_response_complete()
        self.slow_down(status)

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer of idleness: the sweep does what that is for."""
        self.server_state.total_requests += 1
        all_answered = self.cycle.response_complete
        if all_answered:
            # Or an idle connection would hold its last images and the version that judged them.
            self.cycle, self.scope = COMPLETED, {}  # type: ignore[typeddict-item]
            self._running = self._reading = COMPLETED
            if not self._in_head and not self.transport.is_closing():
                self._idle[self] = None
            # Also for a body that was answered before it had come whole: no more is waited for it.
            self.silent_until = self.loop.time() + self._limits.idle_seconds
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def on_deadline(self) -> None:
        """Close a connection that is idle, or whose request does not come."""
        if self.transport.is_closing():  # and its client does not take the last answer
            self.transport.abort()
        elif self._in_head:
            self._refusal = SLOW_HEAD
            self.send_400_response("")
        elif self._fast is not None:
            self._leave_fast_path(self._fast)
        else:
            self._end()

    def _leave_fast_path(self, fast: FastPathExchange) -> None:
        """Leave a body that does not come to the application, which knows what to do with it."""
        self._fast, self.cycle = None, COMPLETED
        self._run_application()
        self.on_body(fast.body)
