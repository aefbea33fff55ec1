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
    """Whether a request's Accept header prefers OpenMetrics, which has exemplars."""
    wishes = [_wish(kind) for kind in accept.split(",")]
    openmetrics = max((q for kind, q in wishes if kind == OPENMETRICS), default=0.0)
    others = max((q for kind, q in wishes if kind in ("text/plain", "text/*", "*/*")), default=0.0)
    return openmetrics > 0 and openmetrics >= others


def _wish(text: str) -> tuple[str, float]:
    """A media range and its quality (RFC 9110, section 12.4.2); 0 says that it is not taken."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, float(value)
            except ValueError:
                return kind, 0.0
    return kind, 1.0


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
