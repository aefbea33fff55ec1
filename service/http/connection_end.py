"""How a connection ends: with a refusal, with its last answer, or when its client sends no more."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import OrderedDict, deque
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from isoserve.service.batching.admission import CALM_SECONDS
from isoserve.service.errors import Problem
from isoserve.service.http.fast_exchange import COMPLETED, FastPathExchange
from isoserve.service.http.hooks import ConnectionHooks, ConnectionLimits
from isoserve.service.http.responses import problem_answer
from isoserve.service.observability.request_id import new_request_id

PROBED_AFTER_SECONDS = 0.05
"""A client that has ended its side of the connection, and is answered sooner, is not probed."""

HELD_BACK_SECONDS = 0.1
"""A client that was told to come back in a second or more, comes at once and is refused again, is
read so much later. A refusal costs what a small image does: a few dozen connections that ask
without a pause would leave less than half of the machine to serve with."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What a client passes over that waits for its answer (RFC 9110, section 15.2); the system of one
that has gone refuses it."""

MALFORMED = Problem(400, "malformed_request", "this is not an HTTP/1.1 request")
HEAD_TOO_LARGE = Problem(431, "head_too_large", "the request's line and headers are too large")
BAD_HOST = Problem(400, "bad_host", "a request has one Host header (RFC 9112, section 3.2)")
SLOW_HEAD = Problem(408, "slow_head", "the request's headers took too long to arrive")
UNKNOWN_CODING = Problem(
    501, "unknown_transfer_coding", "the only transfer coding that is taken is 'chunked'"
)
TOO_MANY_PIPELINED = Problem(400, "too_many_pipelined", "too many requests wait on a connection")
TOO_MANY = Problem(503, "too_many_connections", "the server has all the connections it can take")


class EndingHttpProtocol(HttpToolsProtocol):
    """The part of the protocol that ends connections.

    Attributes:
        cycle: uvicorn's RequestResponseCycle of the newest request, or what stands in its place.
        silent_until, unread_until: on the loop's clock, when the connection's time is up: for
            what it does not send, and for answers that it does not take.
    """

    _limits: ConnectionLimits
    _hooks: ConnectionHooks
    _refusal: Problem
    _in_body: bool
    _fast: FastPathExchange | None
    _running: Any
    _reading: Any
    _half_closed: asyncio.TimerHandle | None
    cycle: Any
    pipeline: deque[Any]
    silent_until: float
    unread_until: float
    _idle: OrderedDict[Any, None]
    _refused_at = -math.inf

    def slow_down(self, status: int) -> None:
        """After a 429, read on later if there was one on this connection within its Retry-After."""
        if status != HTTPStatus.TOO_MANY_REQUESTS:
            return
        now = self.loop.time()
        if now < self._refused_at + CALM_SECONDS and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_later(HELD_BACK_SECONDS, self._read_on)
        self._refused_at = now

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The client takes its answers slower than they come: from now on it has a while."""
        super().pause_writing()
        self.unread_until = self.loop.time() + self._limits.idle_seconds

    def resume_writing(self) -> None:
        """It has taken most of them."""
        super().resume_writing()
        self.unread_until = math.inf

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """The client will send no more: what it asked for whole is answered first.

        It may also have gone altogether, which looks the same from here until it is written to.
        """
        if self._in_body or self.cycle is None or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        if self._half_closed is None:
            self._half_closed = self.loop.call_later(PROBED_AFTER_SECONDS, self._probe)
        return True

    def _probe(self) -> None:
        """Write what needs no answer, so that the system learns whether the client is there."""
        running = self._running
        if self._fast is not None or (
            not running.response_complete
            and not running.response_started
            and running.scope["http_version"] == "1.1"
        ):
            self.transport.write(CONTINUE)
        self._leave_if_gone()

    def _leave_if_gone(self) -> None:
        """Give up what a client asked that is found to have gone; look again in a while."""
        opened = self.transport.get_extra_info("socket")
        if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self._half_closed = self.loop.call_later(PROBED_AFTER_SECONDS, self._leave_if_gone)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self._half_closed is not None:
            self._half_closed.cancel()
        if self._fast is not None:
            self._fast.leave()
            # They lead to each other, and the exchange to the image.
            self._fast, self.cycle = None, COMPLETED
        # uvicorn ends the newest request only: one before it would write to what is closed.
        if not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what never became a request, and close."""
        problem = self._refusal
        self._hooks.ended(problem.reason)
        if self.cycle is None or self.cycle.response_complete:
            if not self._in_body:  # else it is the body of a request that has its answer
                self._write_refusal(problem)
        elif self._reading is self._running and not self._running.response_complete:
            if not self._running.response_started:
                self._running.disconnected = True  # the application waits for the body in vain
                self._running.message_event.set()
                self._write_refusal(problem)
        else:
            self._end_with_the_last_answer()
            return
        self._end()

    def _write_refusal(self, problem: Problem) -> None:
        self.transport.write(problem_answer(problem, new_request_id(), [], closes=True))

    def _end_with_the_last_answer(self) -> None:
        """What came whole before what cannot be read is answered."""
        if self.pipeline and self.pipeline[0][0] is self._reading:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        self.cycle.keep_alive = False
        self.flow.pause_reading()
        self.flow.read_paused = False  # so that nobody resumes it

    def _end(self) -> None:
        self.silent_until = self.loop.time() + self._limits.idle_seconds
        self.transport.close()
