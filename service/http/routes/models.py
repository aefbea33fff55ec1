"""What is loaded, and whether the server is well: models, probes, metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from isoserve.service.errors import Problem
from isoserve.service.http.schemas import (
    ComparisonDocument,
    Health,
    ModelDocument,
    ModelList,
    ProblemDocument,
    VersionDocument,
)
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.prometheus_text import (
    OPENMETRICS_TYPE,
    PLAIN_TYPE,
    takes_openmetrics,
)
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.shadow import DROPPED, REJECTED
from isoserve.service.repository.versions import ModelRecord


def model_routes(
    repository: Repository, metrics: Metrics, is_stuck: Callable[[], bool]
) -> APIRouter:
    """The routes, bound to this application's repository and registry.

    Args:
        is_stuck: whether a slot runs what cannot be ended.
    """
    router = APIRouter()

    @router.get("/v1/models", tags=["models"], summary="Every model and its versions")
    async def list_models() -> ModelList:
        # At once: the watcher may take a model away between two of them.
        records = sorted(repository.models.values(), key=lambda record: record.name)
        return ModelList(models=[_document(repository, record) for record in records])

    @router.get(
        "/v1/models/{name}",
        tags=["models"],
        summary="One model: versions, states, cards",
        responses={404: {"model": ProblemDocument}},
    )
    async def get_model(name: str) -> ModelDocument:
        return _document(repository, repository.find(name))

    @router.get(
        "/healthz/live",
        tags=["health"],
        summary="The process answers",
        responses={503: {"model": ProblemDocument}},
    )
    async def live() -> Health:
        if is_stuck():
            raise Problem(503, "stuck", "a run of a network does not end: restart this process")
        return Health(status="live")

    @router.get(
        "/healthz/ready",
        tags=["health"],
        summary="Requests are answered",
        responses={503: {"model": ProblemDocument}},
    )
    async def ready() -> Health:
        if reason := repository.not_ready:
            raise Problem(503, "no_model_ready", reason, retry_after=1)
        return Health(status="ready")

    @router.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus' text format, or OpenMetrics",
        response_class=Response,
    )
    def exposition(request: Request) -> Response:
        in_openmetrics = takes_openmetrics(request.headers.get("accept", ""))
        return Response(
            metrics.exposition(in_openmetrics),
            headers={"content-type": OPENMETRICS_TYPE if in_openmetrics else PLAIN_TYPE},
        )

    return router


def _document(repository: Repository, record: ModelRecord) -> ModelDocument:
    served = record.served
    named = repository.shadows.get(record.name)
    return ModelDocument(
        name=record.name,
        serving=served.model.version if served else None,
        versions=[
            VersionDocument(
                version=known.version,
                state=known.state,
                reason=known.reason,
                detail=known.detail,
                since=known.since,
                sha256=known.sha256,
                card=known.card,
                engine=known.form.engine if known.form else "",
                precision=known.form.precision if known.form else "",
                shadow=named is not None and known.version == named.version,
                comparison=_comparison(record) if known.state == "shadow" else None,
            )
            for known in sorted(
                [*record.versions.values()], key=lambda known: known.version, reverse=True
            )
        ],
    )


def _comparison(record: ModelRecord) -> ComparisonDocument | None:
    served, shadow = record.served, record.shadow
    if shadow is None:
        return None
    version = served.model.version if served else None
    images = shadow.counts.beside(version).images if version is not None else {}
    return ComparisonDocument(
        share=shadow.share,
        live_version=version,
        images=sum(images.values()),
        class_agrees=sum(images.get((True, who), 0) for who in REJECTED),
        rejected={
            who: images.get((True, who), 0) + images.get((False, who), 0) for who in REJECTED
        },
        dropped={reason: shadow.counts.dropped[reason] for reason in DROPPED},
        failed=shadow.counts.failed,
    )
