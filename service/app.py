"""The application: routes, their life span, and the layer around them; nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from isoserve.models.cpu_quota import usable_cores
from isoserve.service.auth import Guard, Tokens
from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.batch_runner import BatchObserver
from isoserve.service.batching.body_budget import BodyBudget
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.batching.predictor import Predictor
from isoserve.service.batching.shadow_runner import ShadowRunner
from isoserve.service.batching.thread_pools import ThreadPools
from isoserve.service.errors import CONTENT_TYPE, Problem, allow_of
from isoserve.service.http.csrf import is_cross_origin
from isoserve.service.http.fast_path import Connection, FastPath, FastPathExchange
from isoserve.service.http.file_limits import grpc_connections
from isoserve.service.http.middleware import (
    RequestMiddleware,
    internal_problem,
    send_problem,
)
from isoserve.service.http.openapi import describe_predict
from isoserve.service.http.problems import problem_of
from isoserve.service.http.request_head import RequestHead
from isoserve.service.http.routes.drift import drift_routes
from isoserve.service.http.routes.models import model_routes
from isoserve.service.http.routes.pages import page_routes
from isoserve.service.http.routes.predict import PREDICT, PREDICT_BATCH, PredictRoutes
from isoserve.service.http.routes.v2 import INFER, InferenceProtocol
from isoserve.service.inference_protocol.errors import is_of_protocol
from isoserve.service.inference_protocol.handler import Inference
from isoserve.service.inference_protocol.openapi import describe_inference_protocol
from isoserve.service.observability.access_log import AccessLog
from isoserve.service.observability.log_writer import LogWriter, in_request
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_id import request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.observability.tracing import open_tracing
from isoserve.service.repository.repository import Repository
from isoserve.service.review import open_review
from isoserve.service.settings import Settings

REPOSITORY = "/v2/repository/"

DOCS = ("/docs", "/redoc")
SANE_PREFIX = re.compile(rb"(?:/[A-Za-z0-9._~-]+)+/?")

_OF_QUEUE = {PREDICT.encode(): PREDICT, PREDICT_BATCH.encode(): PREDICT_BATCH}
"""Paths of requests that come with images for the queue, and their routes' labels."""


class Application:
    """The ASGI application and what it is made of, for tests and for the routes of others."""

    def __init__(self, settings: Settings, log_writer: LogWriter | None = None) -> None:
        self.settings = settings
        self._guard = _guard(settings)
        self.grpc_connections = grpc_connections(settings.max_connections)
        self.slots = settings.slots or max(1, usable_cores() // settings.workers)
        self.metrics = Metrics()
        self._tracing = open_tracing(self.metrics.dropped_traces.inc)
        self._observer = RequestObserver(self.metrics, self._access_log(log_writer), self._tracing)
        self.image_limits = settings.image_limits
        self.repository = Repository(settings, self.slots, self.metrics)
        self._queue_limits = QueueLimits(
            settings.queue_images, settings.queue_seconds, settings.max_batch
        )
        self._pools = ThreadPools(self._queue_limits)
        self.predictor = Predictor(self.repository, self.metrics, self.image_limits)
        self.predict = PredictRoutes(settings, self.predictor, self._pools)
        self.review = open_review(settings, self.repository, self.metrics)
        self.inference = Inference(settings, self.repository, self.predictor, self._pools)
        self.protocol = InferenceProtocol(settings, self.inference)
        self.metrics.expect_requests([PREDICT, PREDICT_BATCH, *INFER])
        self._fast_path = FastPath(
            self.predictor, self._observer, settings.alpha, settings.max_body_bytes
        )
        self.api = self._fastapi()
        self._budget = BodyBudget(settings.held_body_bytes, self.metrics.shed.labels("bytes").inc)
        self._exchanges = RequestMiddleware(
            self._dispatch, self._observer, self._budget, self._guard
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._exchanges(scope, receive, send)

    def ended(self, reason: str) -> None:
        """Count a connection that was ended before its request was read."""
        self.metrics.refused_connections.labels(reason).inc()

    def refusal(self, head: RequestHead) -> tuple[Problem, str] | None:
        """A refusal by the queue, before the body is read and the application is run."""
        batcher = self.predictor.batcher
        path = head.target.partition(b"?")[0]
        if batcher is None or path not in _OF_QUEUE or head.method != b"POST":
            return None
        record = RequestRecord(request_id_of(head.headers), "POST", head.headers)
        if self._guard is not None and batcher.full:
            scope = {"path": _OF_QUEUE[path], "headers": head.headers}
            if not self._guard.is_authorized(scope):
                return None  # the application answers, with 401 and not with 429
        full = batcher.refusal()
        if full is None:
            batcher.reserve()
            return None
        refusal = problem_of(full)
        record.route, record.status = _OF_QUEUE[path], refusal.status
        record.reason = refusal.reason
        record.seconds = perf_counter() - record.started
        self._observer(record)
        return refusal, record.id

    def fast_path(self, head: RequestHead, connection: Connection) -> FastPathExchange | None:
        """The exchange of a request that need not go through the application."""
        if self._guard is not None:
            return None
        return self._fast_path.begin(head, connection)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope["path"] = scope["path"][:-1]
        # The hot route goes past FastAPI's layers, which cost as much as all the rest of it.
        if scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST":
            await self.predict.predict(scope, receive, send)
        elif scope["type"] == "http" and is_of_protocol(scope["path"]):
            if scope["path"].startswith(REPOSITORY) and is_cross_origin(scope["headers"]):
                await send_problem(_cross_site(), scope, send, receive)
            else:
                await self.protocol(scope, receive, send)
        else:
            if scope["type"] == "http":
                in_request.set(scope["request_id"])
                scope["root_path"] = _docs_root(scope)
            await self.api(scope, receive, send)

    def _access_log(self, writer: LogWriter | None) -> AccessLog | None:
        if writer is None:
            return None
        writer.count_dropped = self.metrics.dropped_log_lines.inc
        return AccessLog(writer) if self.settings.access_log else None

    def _fastapi(self) -> FastAPI:
        api = FastAPIOffline(
            title="Isoserve",
            description='A model server that says "I don\'t know".',
            version=version("isoserve"),
            lifespan=self._lifespan,
            redirect_slashes=False,
            servers=[{"url": "."}],
        )
        api.router.routes += [
            Route(PREDICT, _Asgi(self.predict.predict), methods=["POST"]),
            Route(PREDICT_BATCH, _Asgi(self.predict.predict_batch), methods=["POST"]),
        ]
        api.include_router(model_routes(self.repository, self.metrics))
        api.include_router(page_routes(self.settings))
        if self.review is not None:
            api.include_router(self.review.routes())
        api.include_router(drift_routes(self.repository, self.settings.alpha))
        api.add_exception_handler(Problem, _answer_problem)
        api.add_exception_handler(Exception, _answer_failure)
        api.add_exception_handler(HTTPException, _answer_http_exception)
        api.add_exception_handler(RequestValidationError, _answer_validation_error)
        describe = api.openapi

        def openapi() -> dict[str, Any]:
            if api.openapi_schema is None:
                describe_predict(describe(), self.settings)
                describe_inference_protocol(describe())
            return describe()

        api.openapi = openapi  # type: ignore[method-assign]
        return api

    @asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:  # noqa: ARG002
        settings = self.settings
        observers = [*self._observers()]
        batcher = MicroBatcher(
            self.slots, self._queue_limits, self.image_limits, self.metrics, observers
        )
        self.predictor.batcher = batcher
        self.repository.start()
        # A worker that returns shares the socket with others, which have models to answer with.
        while settings.workers > 1 and not self.repository.scanned:
            await asyncio.sleep(0.02)
        try:
            async with self._grpc():
                yield
        finally:
            await asyncio.to_thread(self._pools.close)
            await asyncio.to_thread(self.repository.close)
            await asyncio.to_thread(batcher.close)
            for observer in observers:
                await asyncio.to_thread(observer.close)
            if self._tracing is not None:
                await asyncio.to_thread(self._tracing.close)

    def _observers(self) -> Iterator[BatchObserver]:
        """What sees each batch, running; to be closed after the queue."""
        settings = self.settings
        if self.review is not None:
            yield self.review.keeper()
        if settings.shadow:
            yield ShadowRunner(
                self.repository.shadow_of, self.image_limits, settings.alpha, settings.max_batch
            )

    @asynccontextmanager
    async def _grpc(self) -> AsyncIterator[None]:
        if not self.settings.grpc_port:
            yield
            return
        from isoserve.service import grpc_server

        self.metrics.expect_requests([grpc_server.INFER])
        limits = grpc_server.GrpcLimits(self.grpc_connections, self._budget, self._guard)
        server = grpc_server.GrpcServer(self.settings, self.inference, self._observer, limits)
        await server.start()
        try:
            yield
        finally:
            await server.stop()


def create_app(settings: Settings, log_writer: LogWriter | None = None) -> Application:
    """The application of these settings; it loads its models when its life span begins.

    Args:
        log_writer: takes the lines of requests; without one there are none.
    """
    return Application(settings, log_writer)


def _guard(settings: Settings) -> Guard | None:
    if settings.token_file is None:
        return None
    paths = (path.strip() for path in settings.open_paths.split(","))
    return Guard(Tokens(settings.token_file), tuple(path for path in paths if path))


def _docs_root(scope: Scope) -> str:
    """What stands before the addresses in the documentation's pages, which a proxy may move."""
    if scope["path"] not in DOCS:
        return ""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-prefix" and SANE_PREFIX.fullmatch(value):
            return str(value, "ascii").rstrip("/")
    return ".." if scope["raw_path"].endswith(b"/") else "."


def _cross_site() -> Problem:
    return Problem(403, "cross_site", "a page of another site may not ask this", closes=True)


class _Asgi:
    """Starlette takes a function as an endpoint of requests, an object as an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _problem_response(request: Request, problem: Problem) -> Response:
    request.scope["record"].reason = problem.reason
    return Response(
        problem.body(request.scope["request_id"]),
        status_code=problem.status,
        headers=problem.headers,
        media_type=CONTENT_TYPE,
    )


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _problem_response(request, error)


async def _answer_failure(request: Request, error: Exception) -> Response:  # noqa: ARG001
    # It is raised again after this answer, and logged by RequestMiddleware.
    return _problem_response(request, internal_problem())


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, "http", str(error.detail))
    problem.headers.update({name.lower(): text for name, text in (error.headers or {}).items()})
    if "allow" in problem.headers:
        problem.headers["allow"] = allow_of(problem.headers["allow"].split(", "))
    return _problem_response(request, problem)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _problem_response(request, Problem(422, "bad_parameter", f"{where}: {first['msg']}"))
