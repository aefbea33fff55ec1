"""What Prometheus sees. Names and labels are part of the contract with dashboards and alerts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)
from prometheus_client.process_collector import ProcessCollector

from isoserve.service.inference.model import Model, Outputs
from isoserve.service.observability.batch_histogram import BatchHistogram
from isoserve.service.observability.drift import P_VALUE_BUCKETS
from isoserve.service.observability.exemplars import Exemplars, exemplar_of
from isoserve.service.observability.p_value_window import PValueWindow
from isoserve.service.observability.prometheus_text import LEFT, expose, of_all_workers
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.observability.score_histogram import ScoreHistograms

if TYPE_CHECKING:
    from isoserve.service.batching.job import Job

disable_created_metrics()  # type: ignore[no-untyped-call]

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Where it is in the environment, this process is one of several whose numbers are added up."""

SECONDS_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
VERDICTS = ("in_distribution", "ood")

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
        self._multiprocess = MULTIPROCESS_FOLDER in os.environ
        if not self._multiprocess:
            ProcessCollector(registry=self.registry)
        of_model = ("model", "version")
        self._images = self._counter("images", "Verdicts at the operator's alpha.", "verdict")
        self._predictions = self._counter(
            "predictions", "Verdicts by predicted class.", "label", "verdict"
        )
        self._p_value = BatchHistogram(
            "isoserve_p_value",
            "Conformal p-values; uniform on in-distribution traffic.",
            of_model,
            buckets=P_VALUE_BUCKETS,
            registry=self.registry,
        )
        self._entropic_score = ScoreHistograms(self.registry)
        self.invalid_images = Counter(
            "isoserve_invalid_images_total",
            "Images refused, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.request_duration = Histogram(
            "isoserve_request_duration_seconds",
            "From the request's headers to the answer's end.",
            ("route", "status"),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._durations: dict[tuple[str, int], Histogram] = {}
        self._exemplars = Exemplars()
        self.decode_duration = self._seconds("decode_duration", "Decoding one image.")
        self.queue_wait = self._seconds("queue_wait", "Waiting for a free slot, an image.")
        self.inference_duration = self._seconds("inference_duration", "One run, a batch.")
        self.batch_size = Histogram(
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
        self._model_info = Gauge(
            "isoserve_model_info",
            "1 for each version that serves.",
            ("model", "version", "sha256", "network", "loss"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._model_alpha = Gauge(
            "isoserve_model_alpha",
            "The operator's alpha.",
            of_model,
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._calibration_images = Gauge(
            "isoserve_model_calibration_images",
            "Images that the version's p-values are calibrated on.",
            of_model,
            registry=self.registry,
            multiprocess_mode="livemax",
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
        key = (record.route, record.status)
        series = self._durations.get(key)
        if series is None:
            series = self.request_duration.labels(record.route, str(record.status))
            self._durations[key] = series
        series.observe(record.seconds, self._exemplars.of_request(record))

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

    def model_serves(self, model: Model, alpha: float) -> ModelSeries:
        """Create the version's series, at zero, and mark it as serving."""
        self._info_of(model).set(1)
        self._model_alpha.labels(model.name, str(model.version)).set(alpha)
        images = model.card.calibration.n
        self._calibration_images.labels(model.name, str(model.version)).set(images)
        return ModelSeries(self, model, alpha)

    def model_left(self, model: Model) -> None:
        """The version serves no more; its counts stay, as Prometheus wants of counters."""
        of_version = (model.name, str(model.version))
        for gauge, labels in (
            (self._model_info, self._info_labels(model)),
            (self._model_alpha, of_version),
            (self._calibration_images, of_version),
        ):
            if self._multiprocess:
                gauge.labels(*labels).set(LEFT)
            else:
                gauge.remove(*labels)

    def _info_of(self, model: Model) -> Gauge:
        return self._model_info.labels(*self._info_labels(model))

    @staticmethod
    def _info_labels(model: Model) -> tuple[str, ...]:
        card = model.card
        return (model.name, str(model.version), model.sha256, card.network, card.loss)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(
            f"isoserve_{name}_total", text, ("model", "version", *labels), registry=self.registry
        )

    def _seconds(self, name: str, text: str) -> BatchHistogram:
        return BatchHistogram(
            f"isoserve_{name}_seconds", text, buckets=SECONDS_BUCKETS, registry=self.registry
        )


class ModelSeries:
    """One version's series, bound once, so that counting looks nothing up."""

    def __init__(self, metrics: Metrics, model: Model, alpha: float) -> None:
        key = (model.name, str(model.version))
        self.window = PValueWindow(f"{model.name}-{model.version}-{model.sha256}", shared_folder())
        self._alpha = np.float32(alpha)
        self._images = [metrics._images.labels(*key, verdict) for verdict in VERDICTS]
        self._predictions = [
            [metrics._predictions.labels(*key, label, verdict) for verdict in VERDICTS]
            for label in model.labels
        ]
        self._p_value = metrics._p_value.labels(*key)
        self._entropic_score = metrics._entropic_score.of(model)

    def count(self, outputs: Outputs, jobs: Sequence[Job]) -> None:
        """Count a batch's verdicts, at the operator's alpha whatever a request asked for.

        Args:
            jobs: the images, in the outputs' order.
        """
        rejected = (~(outputs.p_value > self._alpha)).tolist()
        ood = sum(rejected)
        self._images[0].inc(len(rejected) - ood)
        if ood:
            self._images[1].inc(ood, exemplar_of(jobs[rejected.index(True)].request_id))
        self.window.add(outputs.p_value, ood)
        predictions: dict[tuple[int, bool], int] = {}
        for each in zip(outputs.predicted, rejected, strict=True):
            predictions[each] = predictions.get(each, 0) + 1
        for (index, out), count in predictions.items():
            self._predictions[index][out].inc(count)
        self._p_value.observe_all(outputs.p_value.tolist())
        self._entropic_score.observe_all(outputs.entropic_score.tolist())
