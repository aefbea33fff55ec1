"""The numbers as text for who scrapes them: Prometheus' own format, or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics

LEFT = 0.0
"""Value of a gauge of a version that serves no more, where series cannot be removed."""

OPENMETRICS = "application/openmetrics-text"
PLAIN_TYPE, OPENMETRICS_TYPE = CONTENT_TYPE_LATEST, openmetrics.CONTENT_TYPE_LATEST


def takes_openmetrics(accept: str) -> bool:
    """Whether a request's Accept header asks for OpenMetrics, which has exemplars."""
    kinds = (kind.partition(";")[0].strip().lower() for kind in accept.split(","))
    return OPENMETRICS in kinds


def expose(registry: CollectorRegistry, in_openmetrics: bool) -> bytes:
    """The numbers in one of the formats."""
    if not in_openmetrics:
        return generate_latest(registry)
    text: bytes = openmetrics.generate_latest(_Strict(registry))  # type: ignore[no-untyped-call]
    return text


def of_all_workers() -> CollectorRegistry:
    """The numbers of all processes that count together."""
    registry = CollectorRegistry()
    registry.register(_Workers())
    return registry


class _Strict:
    """What OpenMetrics allows: a histogram with negative bounds has neither sum nor count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            if metric.type == "histogram" and _has_negative_bounds(metric):
                metric.samples = [each for each in metric.samples if "le" in each.labels]
            yield metric


def _has_negative_bounds(histogram: Metric) -> bool:
    return any(float(each.labels.get("le", 0)) < 0 for each in histogram.samples)


class _Workers:
    """What all workers count, without the gauges of versions that serve in none of them."""

    def collect(self) -> Iterator[Metric]:
        for metric in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call]
            if metric.name.startswith("isoserve_model_") and metric.type == "gauge":
                metric.samples = [each for each in metric.samples if each.value != LEFT]
            yield metric
