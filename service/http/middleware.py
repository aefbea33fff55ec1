"""One request and its answer: its id, how long it took, and that it is always answered.

:class:`RequestMiddleware` is the outermost ASGI layer. It goes around the predict routes and
FastAPI alike and costs a closure per request; Starlette's own middleware classes cost a hundred
times that.
"""

from __future__ import annotations

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isoserve.service.auth import Guard
from isoserve.service.batching.body_budget import BodyBudget, BodyHold
from isoserve.service.errors import CONTENT_TYPE, Problem
from isoserve.service.http.body import linger
from isoserve.service.http.disconnect import ClientGone
from isoserve.service.http.responses import JSON, body_headers
from isoserve.service.inference_protocol.errors import CONTENT_TYPE as PROTOCOL_CONTENT_TYPE
from isoserve.service.inference_protocol.errors import error_body, is_of_protocol
from isoserve.service.observability.log_writer import about
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import OTHER_ROUTE, RequestRecord

log = logging.getLogger("isoserve.exchange")

START, BODY = "http.response.start", "http.response.body"
WHOLE_ANSWER = "isoserve.whole_answer"
"""Between the routes and this layer: status, headers and body in one message, and so one write."""


class RequestMiddleware:
    """Gives every request an id and every answer that id, and has its end observed."""

    def __init__(
        self,
        app: ASGIApp,
        observer: RequestObserver,
        budget: BodyBudget,
        guard: Guard | None = None,
    ) -> None:
        self._app = app
        self._observer = observer
        self._budget = budget
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        write = scope.pop("write_whole_answer", None)  # it leads back to this scope
        method = scope["method"]
        if method == "HEAD":  # as GET in all but the body, which uvicorn leaves out
            scope = {**scope, "method": "GET"}
        request_id = request_id_of(scope["headers"])
        record = RequestRecord(request_id, method, scope["headers"])
        scope["record"] = record
        scope["request_id"] = request_id
        scope["route_label"] = OTHER_ROUTE
        scope["body_hold"] = hold = BodyHold(self._budget)
        header = (b"x-request-id", request_id.encode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == START:
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            elif message["type"] == WHOLE_ANSWER:
                status = message["status"]
                headers = [*message["headers"], header]
                if write is None or not write(status, headers, message["body"]):
                    await send({"type": START, "status": status, "headers": headers})
                    await send({"type": BODY, "body": message["body"]})
                return
            await send(message)

        try:
            if self._guard is not None and not self._guard.is_authorized(scope):
                await send_problem(_unauthorised(), scope, send_with_id, receive)
                return
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            status = CLIENT_GONE
        except Exception:
            problem = failure(request_id)
            if status == 0:
                await send_problem(problem, scope, send_with_id)
        finally:
            hold.release()
            record.route = route_of(scope)
            record.status = status
            record.seconds = perf_counter() - record.started
            self._observer(record)


async def send_problem(
    problem: Problem, scope: Scope, send: Send, receive: Receive | None = None
) -> None:
    """Answer with a problem document, or in the inference protocol's form.

    Args:
        scope: the request's; its path decides on the form.
        receive: where the rest of the request comes from, if the problem closes the connection.
    """
    own = not is_of_protocol(scope["path"])
    scope["record"].reason = problem.reason
    await send_body(
        problem.body(scope["request_id"]) if own else error_body(problem),
        send,
        status=problem.status,
        content_type=(CONTENT_TYPE if own else PROTOCOL_CONTENT_TYPE).encode(),
        headers=[(name.encode(), value.encode()) for name, value in problem.headers.items()],
        ends=not problem.closes,
    )
    if problem.closes:
        if receive is not None:
            await linger(receive)
        await send({"type": BODY, "body": b""})


async def send_body(
    body: bytes,
    send: Send,
    *,
    status: int = 200,
    content_type: bytes = JSON,
    headers: list[tuple[bytes, bytes]] | None = None,
    ends: bool = True,
) -> None:
    """Answer with a whole body at once; ``ends=False``: the caller ends the answer."""
    named = [*body_headers(body, content_type), *(headers or [])]
    if ends:
        await send({"type": WHOLE_ANSWER, "status": status, "headers": named, "body": body})
    else:
        await send({"type": START, "status": status, "headers": named})
        await send({"type": BODY, "body": body, "more_body": True})


def _unauthorised() -> Problem:
    problem = Problem(
        401, "unauthorised", "send 'Authorization: Bearer TOKEN' with a token of this server"
    )
    problem.headers["www-authenticate"] = "Bearer"
    return problem


def failure(request_id: str) -> Problem:
    """The answer to a request that met an error of the server's own; the error is logged."""
    log.exception("a request failed", extra=about(request_id))
    return internal_problem()


def internal_problem() -> Problem:
    """The answer to a client about an error of the server's own."""
    return Problem(500, "internal", "the server failed; the request id names its log")


def route_of(scope: Scope) -> str:
    """The label of a request's route: what a route set, or the path of FastAPI's."""
    label: str = scope["route_label"]
    if label is not OTHER_ROUTE:
        return label
    path: str = getattr(scope.get("route"), "path", OTHER_ROUTE)
    return path
