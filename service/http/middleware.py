"""One request and its answer: its id, how long it took, and that it is always answered.

:class:`RequestMiddleware` is the outermost ASGI layer, around FastAPI, and costs a closure per
request; Starlette's own middleware classes cost a hundred times that.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isoserve.service.auth import Guard
from isoserve.service.batching.body_budget import BodyBudget, BodyHold
from isoserve.service.http.cors import Cors
from isoserve.service.http.disconnect import ClientGone
from isoserve.service.http.documentation import docs_root
from isoserve.service.http.error_handlers import ProblemResponse, failure
from isoserve.service.http.hosts import Hosts
from isoserve.service.observability.log_writer import in_request
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import OTHER_ROUTE, RequestRecord


class Border(NamedTuple):
    """Who is let in: under which names, from pages of which sites, with which tokens."""

    hosts: Hosts
    cors: Cors
    guard: Guard | None


class RequestMiddleware:
    """Gives every request an id and every answer that id, and has its end observed."""

    def __init__(
        self,
        app: ASGIApp,
        observer: RequestObserver,
        budget: BodyBudget,
        border: Border,
    ) -> None:
        self._app = app
        self._observer = observer
        self._budget = budget
        self._border = border

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
        added = [(b"x-request-id", request_id.encode())]
        hosts, cors, guard = self._border
        record.is_foreign = cors.is_foreign(scope["headers"])
        added += cors.answer_headers(scope["headers"])
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        try:
            if refused := hosts.refusal(scope["path"], scope["headers"]):
                await ProblemResponse(refused, scope)(scope, receive, send_with_id)
                return
            if kept := cors.preflight_headers(method, scope["headers"]):
                added += kept
                await Response(status_code=204)(scope, receive, send_with_id)
                return
            if guard is not None and (refused := guard.refusal(scope)):
                await ProblemResponse(refused, scope)(scope, receive, send_with_id)
                return
            if "caller" in scope:
                record.caller = scope["caller"].name
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


def _route_of(scope: Scope) -> str:
    """The label of a request's route: its path as it was declared."""
    path: str = getattr(scope.get("route"), "path", OTHER_ROUTE)
    return path
