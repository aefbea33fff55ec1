"""Spans of finished requests. Imports OpenTelemetry: ``pip install 'isoserve[otel]'``.

A request's spans are made when it has ended, with the times it had, by a thread of their own: four
spans cost more than all the rest of a request. On the event loop only their trace is decided on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision

from isoserve.service.observability.background_queue import BackgroundQueue, QueueBounds
from isoserve.service.observability.image_timing import ImageTiming
from isoserve.service.observability.request_record import Headers, RequestRecord

log = logging.getLogger("isoserve.tracing")

MOST_WAITING = 4096
"""Requests whose spans are not made yet; beyond it they are lost."""

GATHER_SECONDS = 0.2
CLOSE_SECONDS = 3.0

SERVER_FAULT = 500

Attributes = Mapping[str, str | int | float | bool]


class Joined(NamedTuple):
    """The trace that a request belongs to, and what its span is a child of."""

    trace_id: int
    parent: Context


class Tracing:
    """Configured by OpenTelemetry's environment variables: endpoint, headers, sampler, resource.

    Args:
        count_dropped: called for each trace that was lost.
    """

    def __init__(self, count_dropped: Callable[[], object]) -> None:
        self._count_dropped = count_dropped
        self._ids = _Ids()
        defaults = {"service.name": "isoserve", "service.version": version("isoserve")}
        self._provider = TracerProvider(
            resource=Resource(defaults).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._sampler = self._provider.sampler
        self._tracer = self._provider.get_tracer("isoserve", version("isoserve"))
        self._queue: BackgroundQueue[tuple[RequestRecord, Joined]] = BackgroundQueue(
            "traces", self._make_all, QueueBounds(MOST_WAITING, gather_seconds=GATHER_SECONDS)
        )

    def join(self, record: RequestRecord) -> Joined | None:
        """The request's trace, by its ``traceparent`` or a new one; None where it is not sampled.

        The record learns its trace's id.
        """
        parent = propagate.extract(_carrier(record.headers), Context())
        given = trace.get_current_span(parent).get_span_context()
        trace_id = given.trace_id if given.is_valid else self._ids.new_trace_id()
        sampled = self._sampler.should_sample(parent, trace_id, _name(record.method, record.route))
        if sampled.decision != Decision.RECORD_AND_SAMPLE:
            return None
        record.trace_id = trace.format_trace_id(trace_id)
        return Joined(trace_id, parent)

    def add(self, record: RequestRecord, joined: Joined) -> None:
        """Trace a finished request; does not wait."""
        if not self._queue.offer((record, joined)):
            self._count_dropped()

    def close(self) -> None:
        """Send what waits, unless the receiver takes too long."""
        self._queue.close(CLOSE_SECONDS)
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(CLOSE_SECONDS)

    def _make_all(self, waiting: list[tuple[RequestRecord, Joined]]) -> None:
        for record, joined in waiting:
            try:
                self._make(record, joined)
            except Exception:
                log.exception("a request could not be traced")

    def _make(self, record: RequestRecord, joined: Joined) -> None:
        ended = record.started + record.seconds

        def at(moment: float) -> int:
            """Nanoseconds of the epoch."""
            return int(1e9 * (record.ended - (ended - moment)))

        self._ids.trace_id = joined.trace_id
        span = self._tracer.start_span(
            _name(record.method, record.route),
            joined.parent,
            trace.SpanKind.SERVER,
            _attributes(record),
            start_time=at(record.started),
        )
        inside = trace.set_span_in_context(span, joined.parent)
        for stage, begun, done in _stages([image for image in record.images if image]):
            child = self._tracer.start_span(stage, inside, start_time=at(begun))
            child.end(at(done))
        if record.status >= SERVER_FAULT:
            span.set_status(trace.StatusCode.ERROR, record.reason)
        span.end(at(ended))


class _Ids(RandomIdGenerator):
    """Gives a new trace the id that was decided on before its spans are made."""

    trace_id = 0

    def new_trace_id(self) -> int:
        return super().generate_trace_id()

    def generate_trace_id(self) -> int:
        return self.trace_id


def _carrier(headers: Headers) -> dict[str, str]:
    return {str(name, "latin-1"): str(value, "latin-1") for name, value in headers}


def _name(method: str, route: str) -> str:
    return route if route.startswith("grpc ") else f"{method} {route}"


def _attributes(record: RequestRecord) -> Attributes:
    """By OpenTelemetry's conventions for HTTP servers, and our own."""
    attributes: dict[str, Any] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "isoserve.request_id": record.id,
    }
    if record.reason:
        attributes["error.type" if record.status >= SERVER_FAULT else "isoserve.reason"] = (
            record.reason
        )
    if record.model:
        attributes["isoserve.model"], attributes["isoserve.version"] = (
            record.model,
            record.version,
        )
    if record.images:
        attributes["isoserve.images"] = len(record.images)
    if (
        len(record.images) == 1
        and (image := record.images[0])
        and (verdict := record.verdict(image))
    ):
        attributes["isoserve.label"] = verdict.label
        attributes["isoserve.p_value"] = float(verdict.p_value)
        attributes["isoserve.is_ood"] = verdict.is_ood
    return attributes


def _stages(images: Sequence[ImageTiming]) -> list[tuple[str, float, float]]:
    """Each stage that some image came to: from the first one's begin to the last one's end."""
    spans = {
        "queue": [(image.queued_at, image.wait_seconds) for image in images],
        "decode": [(image.decode_at, image.decode_seconds) for image in images],
        "inference": [(image.run_at, image.inference_seconds) for image in images],
    }
    return [
        (stage, min(at for at, _ in begun), max(at + seconds for at, seconds in begun))
        for stage, times in spans.items()
        if (begun := [each for each in times if each[0]])
    ]
