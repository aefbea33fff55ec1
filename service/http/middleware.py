"""One request and its answer: its id, how long it took, and that it is always answered.

:class:`RequestMiddleware` is the outermost ASGI layer, around FastAPI, and costs a closure per
request; Starlette's own middleware classes cost a hundred times that.
"""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isoserve.service.auth import Guard
from isoserve.service.batching.body_budget import BodyBudget, BodyHold
from isoserve.service.errors import Problem
from isoserve.service.http.disconnect import ClientGone
from isoserve.service.http.documentation import docs_root
from isoserve.service.http.error_handlers import ProblemResponse, failure
from isoserve.service.observability.log_writer import in_request
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import OTHER_ROUTE, RequestRecord


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
        method = scope["method"]
        if method == "HEAD":  # as GET in all but the body, which uvicorn leaves out
            scope = {**scope, "method": "GET"}
        request_id = request_id_of(scope["headers"])
        record = RequestRecord(request_id, method, scope["headers"])
        scope["record"] = record
        scope["request_id"] = request_id
        in_request.set(request_id)
        if len(scope["path"]) > 1:
            scope["path"] = scope["path"].removesuffix("/")
        scope["root_path"] = docs_root(scope)
        scope["body_hold"] = hold = BodyHold(self._budget)
        header = (b"x-request-id", request_id.encode())
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            if self._guard is not None and not self._guard.is_authorized(scope):
                await ProblemResponse(_unauthorised(), scope)(scope, receive, send_with_id)
                return
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            status = CLIENT_GONE
        except Exception:
            problem = failure(request_id)
            if status == 0:
                await ProblemResponse(problem, scope)(scope, receive, send_with_id)
        finally:
            hold.release()
            record.route = _route_of(scope)
            record.status = status
            record.seconds = perf_counter() - record.started
            self._observer(record)


def _unauthorised() -> Problem:
    problem = Problem(
        401, "unauthorised", "send 'Authorization: Bearer TOKEN' with a token of this server"
    )
    problem.headers["www-authenticate"] = "Bearer"
    return problem


def _route_of(scope: Scope) -> str:
    """The label of a request's route: its path as it was declared."""
    path: str = getattr(scope.get("route"), "path", OTHER_ROUTE)
    return path
