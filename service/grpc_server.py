"""The Open Inference Protocol over gRPC, on a port and in an event loop shared with HTTP.

Imported only where ``grpc_port`` is set: it needs ``pip install 'isoserve[grpc]'``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import grpc
from starlette.types import Scope

from isoserve.service.auth import Guard
from isoserve.service.batching.body_budget import BodyBudget, BodyHold
from isoserve.service.batching.errors import (
    InferenceFailed,
    PredictionError,
    QueueFull,
    Unavailable,
)
from isoserve.service.errors import Problem
from isoserve.service.inference_protocol.grpc_calls import INFER as INFER_CALL
from isoserve.service.inference_protocol.grpc_calls import PATHS, GrpcCalls
from isoserve.service.inference_protocol.grpc_relay import GrpcRelay
from isoserve.service.inference_protocol.handler import Inference
from isoserve.service.inference_protocol.messages import SERVICE
from isoserve.service.inference_protocol.wire import SKELETON_BYTES
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
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

REFUSALS: dict[type[PredictionError], tuple[grpc.StatusCode, int]] = {
    QueueFull: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    Unavailable: (grpc.StatusCode.UNAVAILABLE, 503),
    InferenceFailed: (grpc.StatusCode.INTERNAL, 500),
}
"""What the queue says -> gRPC's code, and HTTP's status, by which calls are counted."""

INFER = f"grpc {INFER_CALL}"
"""A call's route in metrics is named like this."""

METHOD = "POST"
"""Of HTTP, under every gRPC call."""

MOST_CALLS = 1024
"""At a time; a connection carries any number."""

UNREAD_BYTES = 2**20
"""Of a call that the server has not begun to read, its client may send so much; it is counted."""

FRAME_BYTES = 64 * 2**10
"""Of one HTTP/2 frame. It is counted when it begins, so a large one would hold what never comes."""

CONNECTION_AGE_SECONDS = 3600.0
"""Then a connection is ended when its calls are: clients connect again by themselves."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What calls share with HTTP: the budget of bodies, the tokens; and their own connections."""

    connections: int
    budget: BodyBudget
    guard: Guard | None


class GrpcServer:
    """Started and stopped on the event loop that answers HTTP."""

    def __init__(
        self,
        settings: Settings,
        inference: Inference,
        observer: RequestObserver,
        limits: GrpcLimits,
    ) -> None:
        self._settings = settings
        self._message_bytes = settings.max_batch_body_bytes + SKELETON_BYTES
        self._calls = GrpcCalls(inference, self._message_bytes)
        self._observer = observer
        self._limits = limits
        self._server: Any = None
        self._folder = TemporaryDirectory(prefix="isoserve-grpc-")
        self._socket = f"{self._folder.name}/socket"
        self._relay = GrpcRelay(self._socket, limits.budget, limits.connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port cannot be had.
        """
        settings = self._settings
        milliseconds = {
            "grpc.server_handshake_timeout_ms": settings.header_seconds,
            "grpc.max_connection_idle_ms": settings.idle_seconds,
            "grpc.max_connection_age_ms": CONNECTION_AGE_SECONDS,
            "grpc.max_connection_age_grace_ms": settings.grace_seconds,
        }
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=min(MOST_CALLS, settings.max_connections),
            options=[
                ("grpc.max_receive_message_length", self._message_bytes),
                ("grpc.max_metadata_size", settings.max_header_bytes),
                # gRPC would inflate a message to any size before anybody is asked.
                ("grpc.per_message_decompression", 0),
                ("grpc.max_concurrent_streams", MOST_CALLS),
                ("grpc.http2.lookahead_bytes", UNREAD_BYTES),
                ("grpc.http2.max_frame_size", FRAME_BYTES),
                ("grpc.http2.bdp_probe", 0),  # it would raise both
                *((name, max(1, round(1000 * value))) for name, value in milliseconds.items()),
            ],
        )
        handlers = {name: self._handler(name) for name in PATHS}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        self._server.add_insecure_port(f"unix:{self._socket}")
        await self._server.start()
        await self._relay.start(settings.host, settings.grpc_port, shared=settings.workers > 1)

    async def stop(self) -> None:
        """Take no more calls and finish those that run."""
        self._relay.stop_listening()
        await self._server.stop(grace=self._settings.grace_seconds)
        self._relay.close()
        self._folder.cleanup()

    def _handler(self, name: str) -> Any:
        # A call with one message is a stream of one, and of a stream the server reads when it
        # is ready: after it has looked for a token.
        return grpc.stream_unary_rpc_method_handler(self._answered(name))

    def _answered(self, name: str) -> Callable[[Any, Any], Awaitable[bytes]]:
        """The call, its token checked, its problems made status codes, its end counted."""
        route = f"grpc {name}"

        async def answer(messages: AsyncIterator[bytes], context: Any) -> bytes:
            headers = _headers(context)
            record = RequestRecord(request_id_of(headers), METHOD, headers)
            record.route = route
            record.status = 200
            hold = BodyHold(self._limits.budget)
            context.set_trailing_metadata((("x-request-id", record.id),))
            try:
                record.caller = self._check_token(name, headers)
                message = await self._message(messages, context)
                return await self._calls.answer(name, message, record, hold)
            except Problem as problem:
                record.status, record.reason = problem.status, problem.reason
                code = CODES.get(problem.status, grpc.StatusCode.INTERNAL)
                _refuse(context, code, problem.detail)
            except PredictionError as error:
                record.reason = error.reason
                code, record.status = REFUSALS[type(error)]
                _refuse(context, code, error.detail)
            except asyncio.CancelledError:
                record.status = CLIENT_GONE
                raise
            except Exception:
                record.status = 500
                log.exception("%s failed", name, extra=about(record.id))
                _refuse(context, grpc.StatusCode.INTERNAL, "the server failed")
            finally:
                hold.release()
                record.seconds = perf_counter() - record.started
                self._observer(record)
            return b""

        return answer

    async def _message(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        """The call's message.

        Raises:
            Problem: 408, it takes too long to come; 400, there is none.
            CancelledError: the call was given up, or ended for want of memory.
        """
        seconds = self._settings.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await anext(messages)
        except TimeoutError as error:
            detail = f"the message had not arrived whole after {seconds:g} s"
            raise Problem(408, "slow_body", detail) from error
        except StopAsyncIteration as error:
            if context.cancelled():
                raise asyncio.CancelledError from error
            raise Problem(400, "bad_request", "the call has no message") from error

    def _check_token(self, name: str, headers: Headers) -> str:
        """The name of the caller's token, if it has one."""
        guard = self._limits.guard
        if guard is None:
            return ""
        scope: Scope = {"path": PATHS[name], "headers": headers}
        refused = guard.refusal(scope)
        if refused is not None and refused.status == 401:
            raise Problem(401, "unauthorised", "send the metadata 'authorization: Bearer TOKEN'")
        if refused is not None:
            raise refused
        return scope["caller"].name if "caller" in scope else ""


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
