"""What Prometheus sees. Names and labels are part of the contract with dashboards and alerts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    values,
)
from prometheus_client.process_collector import ProcessCollector

from isoserve.service.observability.batch_histogram import BatchHistogram
from isoserve.service.observability.exemplars import Exemplars
from isoserve.service.observability.model_metrics import ModelMetrics
from isoserve.service.observability.prometheus_text import expose, of_all_workers
from isoserve.service.observability.request_record import RequestRecord

disable_created_metrics()  # type: ignore[no-untyped-call]

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where it is in the environment, this process is one of several whose numbers are added up."""

SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)

ALARMING_STATUSES = (500, 503)
"""Their series are there before the first such answer: a rate of what is not there is unknown."""


def shared_folder() -> Path | None:
    """Where several processes count together; None where this is the only one."""
    folder = os.environ.get(MULTIPROCESS_FOLDER)
    return Path(folder) if folder else None


def disable_multiprocess_metrics() -> None:
    """Keep the numbers in memory whatever the environment says; to be called before any is made.

    The client library looks there once, when it is imported. Of a single process, files would keep
    the counts over a restart, and have neither exemplars nor the process' own metrics.
    """
    os.environ.pop(MULTIPROCESS_FOLDER, None)
    values.ValueClass = values.MutexValue


class Metrics:
    """One registry an application, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._multiprocess = shared_folder() is not None
        if not self._multiprocess:
            ProcessCollector(registry=self.registry)
        self.models = ModelMetrics(self.registry, shared_folder())
        self.invalid_images = Counter(
            "isoserve_invalid_images_total",
            "Images refused, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.request_duration = BatchHistogram(
            "isoserve_request_duration_seconds",
            "From the request's headers to the answer's end.",
            ("route", "status"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._durations: dict[tuple[str, int], BatchHistogram] = {}
        self._exemplars = Exemplars()
        self.decode_duration = self._seconds("decode_duration", "Decoding one image.")
        self.queue_wait = self._seconds("queue_wait", "Waiting for a free slot, an image.")
        self.inference_duration = self._seconds("inference_duration", "One run, a batch.")
        self.batch_size = BatchHistogram(
            "isoserve_batch_size",
            "Images in one run.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "isoserve_queue_depth",
            "Images waiting for a slot.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._measure_queue: Callable[[], float] = float
        self.shed = Counter(
            "isoserve_shed_total",
            "Images answered with 429, by the limit they met.",
            ("limit",),
            registry=self.registry,
        )
        self.model_loads = Counter(
            "isoserve_model_loads_total",
            "Attempts to load a version.",
            ("outcome",),
            registry=self.registry,
        )
        self.refused_connections = Counter(
            "isoserve_refused_connections_total",
            "Connections ended before a request was read, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.review_images = Counter(
            "isoserve_review_images_total",
            "Images chosen for review: kept, known already, or lost while the database was away.",
            ("outcome",),
            registry=self.registry,
        )
        of_shadow = ("model", "shadow_version")
        self.shadow_images = self._counter(
            "shadow_images",
            "Images that a shadow was compared on, by agreement of class and who rejected.",
            *("shadow_version", "class_agrees", "rejected"),
        )
        self.shadow_dropped = Counter(
            "isoserve_shadow_dropped_total",
            "Images of a shadow's share that it was not compared on, by reason.",
            (*of_shadow, "reason"),
            registry=self.registry,
        )
        self.shadow_failures = Counter(
            "isoserve_shadow_failures_total",
            "Images that a shadow failed on.",
            of_shadow,
            registry=self.registry,
        )
        self._caller_requests = Counter(
            "isoserve_caller_requests_total",
            "Requests with a named token, by its name.",
            ("caller", "status"),
            registry=self.registry,
        )
        self.dropped_log_lines = Counter(
            "isoserve_dropped_log_lines_total",
            "Log lines lost because stderr was not read fast enough.",
            registry=self.registry,
        )
        self.dropped_traces = Counter(
            "isoserve_dropped_traces_total",
            "Traces of requests lost because there were more than could be made.",
            registry=self.registry,
        )
        for limit in ("images", "seconds", "overload", "bytes", "late"):
            self.shed.labels(limit)
        for outcome in ("loaded", "refused"):
            self.model_loads.labels(outcome)

    def request_answered(self, record: RequestRecord) -> None:
        """Count and time a finished request."""
        if record.caller:
            self._caller_requests.labels(record.caller, str(record.status)).inc()
        key = (record.route, record.status)
        series = self._durations.get(key)
        if series is None:
            series = self.request_duration.labels(record.route, str(record.status))
            self._durations[key] = series
        series.observe_one(record.seconds, self._exemplars.of_request(record))

    def expect_requests(self, routes: Sequence[str]) -> None:
        """Create the series of these routes' failures, at zero."""
        for route in routes:
            for status in ALARMING_STATUSES:
                self.request_duration.labels(route, str(status))

    def exposition(self, in_openmetrics: bool = False) -> bytes:
        """All numbers as text; of all workers where there are several."""
        if self._multiprocess:
            return expose(of_all_workers(), in_openmetrics)
        self.sample()
        return expose(self.registry, in_openmetrics)

    def watch_queue(self, measure: Callable[[], float]) -> None:
        """Where the number of waiting images is to be had."""
        self._measure_queue = measure

    def sample(self) -> None:
        """Bring the gauges up to date; with several workers each does so now and again."""
        self._queue_depth.set(self._measure_queue())

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(
            f"isoserve_{name}_total", text, ("model", "version", *labels), registry=self.registry
        )

    def _seconds(self, name: str, text: str) -> BatchHistogram:
        return BatchHistogram(
            f"isoserve_{name}_seconds", text, buckets=SECONDS_BUCKETS, registry=self.registry
        )
