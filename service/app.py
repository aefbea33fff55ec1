"""The application: routes, their life span, and the layer around them; nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import Receive, Scope, Send

from isoserve.models.cpu_quota import usable_cores
from isoserve.service.auth import Guard, Tokens
from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.batch_runner import BatchObserver
from isoserve.service.batching.body_budget import BodyBudget
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.batching.predictor import Predictor
from isoserve.service.batching.shadow_runner import ShadowRunner
from isoserve.service.batching.thread_pools import ThreadPools
from isoserve.service.errors import Problem
from isoserve.service.http.cors import Cors
from isoserve.service.http.error_handlers import add_error_handlers
from isoserve.service.http.fast_exchange import Connection, FastPathExchange
from isoserve.service.http.fast_path import FastPath
from isoserve.service.http.file_limits import grpc_connections
from isoserve.service.http.hosts import Hosts
from isoserve.service.http.middleware import Border, RequestMiddleware
from isoserve.service.http.openapi import complete_document, serve_document
from isoserve.service.http.problems import problem_of
from isoserve.service.http.request_head import RequestHead
from isoserve.service.http.routes.drift import drift_routes
from isoserve.service.http.routes.models import model_routes
from isoserve.service.http.routes.pages import page_routes
from isoserve.service.http.routes.predict import PREDICT, PREDICT_BATCH, predict_routes
from isoserve.service.http.routes.v2 import INFER, inference_protocol_routes
from isoserve.service.inference_protocol.handler import Inference
from isoserve.service.observability.access_log import AccessLog
from isoserve.service.observability.log_writer import LogWriter
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.request_id import request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.observability.tracing import open_tracing
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.repository.repository import Repository
from isoserve.service.review import open_review
from isoserve.service.settings import Settings

_OF_QUEUE = {PREDICT.encode(): PREDICT, PREDICT_BATCH.encode(): PREDICT_BATCH}
"""Paths of requests that come with images for the queue, and their routes' labels."""


_MODEL_IN_QUERY = re.compile(rb"[?&]model=([^&#%]+)")
"""Names of models need no escapes."""


class Application:
    """The ASGI application and what it is made of, for tests and for the routes of others."""

    def __init__(
        self,
        settings: Settings,
        log_writer: LogWriter | None = None,
        loader: ModelLoader | None = None,
    ) -> None:
        self.settings = settings
        self._guard = _guard(settings)
        self._border = Border(
            Hosts(settings.allowed_hosts, settings.host), Cors(settings.cors_origins), self._guard
        )
        self.grpc_connections = grpc_connections(settings.max_connections)
        self.slots = settings.slots or max(1, usable_cores() // settings.workers)
        self.metrics = Metrics()
        self._tracing = open_tracing(self.metrics.dropped_traces.inc)
        self._observer = RequestObserver(self.metrics, self._access_log(log_writer), self._tracing)
        self.image_limits = settings.image_limits
        self.repository = Repository(settings, self.slots, self.metrics, loader)
        self._queue_limits = QueueLimits(
            settings.queue_images,
            settings.queue_seconds,
            settings.max_batch,
            settings.run_seconds,
            settings.grace_seconds,
        )
        self._pools = ThreadPools(self._queue_limits)
        self.predictor = Predictor(self.repository, self.metrics, self.image_limits)
        self.review = open_review(settings, self.repository, self.metrics)
        self.inference = Inference(settings, self.repository, self.predictor, self._pools)
        self.metrics.expect_requests([PREDICT, PREDICT_BATCH, *INFER])
        self._fast_path = FastPath(
            self.predictor,
            self.inference,
            self._observer,
            settings.alpha,
            min(settings.max_body_bytes, settings.max_batch_body_bytes),
        )
        self.api = self._fastapi()
        self._budget = BodyBudget(settings.held_body_bytes, self.metrics.shed.labels("bytes").inc)
        self._exchanges = RequestMiddleware(self.api, self._observer, self._budget, self._border)

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
        named = _MODEL_IN_QUERY.search(head.target)
        model = named[1].decode("latin-1") if named else self.repository.default_name
        if self._guard is not None and batcher.full(model):
            scope = {"path": _OF_QUEUE[path], "headers": head.headers}
            if not self._guard.is_authorized(scope):
                return None  # the application answers, with 401 and not with 429
        full = batcher.refusal(model)
        if full is None:
            batcher.reserve(model)
            return None
        refusal = problem_of(full)
        record.route, record.status = _OF_QUEUE[path], refusal.status
        record.reason = refusal.reason
        record.seconds = perf_counter() - record.started
        self._observer(record)
        return refusal, record.id

    def fast_path(self, head: RequestHead, connection: Connection) -> FastPathExchange | None:
        """The exchange of a request that need not go through the application."""
        exchange = self._fast_path.begin(head, connection)
        if exchange is None:
            return None
        hosts, _, guard = self._border
        if not hosts.are_named and guard is None:
            return exchange
        path = head.target.partition(b"?")[0].decode("latin-1")
        if hosts.refusal(path, head.headers):
            return None
        if guard is not None:
            scope: dict[str, Any] = {"path": path, "headers": head.headers}
            if guard.refusal(scope):
                return None  # the application says so
            exchange.record.caller = scope["caller"].name if "caller" in scope else ""
        return exchange

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
        api.include_router(predict_routes(self.settings, self.predictor, self._pools))
        api.include_router(inference_protocol_routes(self.settings, self.inference))
        api.include_router(
            model_routes(self.repository, self.metrics, lambda: self.predictor.stuck)
        )
        api.include_router(page_routes(self.settings))
        if self.review is not None:
            api.include_router(self.review.routes())
        api.include_router(drift_routes(self.repository, self.settings.alpha))
        add_error_handlers(api)
        describe = api.openapi

        def openapi() -> dict[str, Any]:
            if api.openapi_schema is None:
                complete_document(describe())
            return describe()

        api.openapi = openapi  # type: ignore[method-assign]
        serve_document(api)
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
            await asyncio.to_thread(self.repository.close)
            await asyncio.to_thread(self._pools.close)
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


def create_app(
    settings: Settings, log_writer: LogWriter | None = None, loader: ModelLoader | None = None
) -> Application:
    """The application of these settings; it loads its models when its life span begins.

    Args:
        log_writer: takes the lines of requests; without one there are none.
        loader: one that has begun with the models already.
    """
    return Application(settings, log_writer, loader)


def _guard(settings: Settings) -> Guard | None:
    if settings.token_file is None:
        return None
    paths = (path.strip() for path in settings.open_paths.split(","))
    return Guard(Tokens(settings.token_file), tuple(path for path in paths if path))
