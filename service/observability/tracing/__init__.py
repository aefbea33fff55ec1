"""OpenTelemetry traces, where its standard environment variables ask for them, and only there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoserve.service.observability.tracing.spans import Tracing

log = logging.getLogger("isoserve.tracing")

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"


def open_tracing(count_dropped: Callable[[], object]) -> Tracing | None:
    """What traces requests; None where nothing asks for it, and nothing is imported.

    These variables are often set for all that runs in a cluster, so what is missing to follow
    them is logged and keeps nobody from being served.

    Args:
        count_dropped: called for each trace that was lost.
    """
    if not asked_for(os.environ):
        return None
    given = next(filter(None, map(os.environ.get, PROTOCOLS)), PROTOCOL)
    if given != PROTOCOL:
        log.warning("traces are sent as %s; %s is not spoken", PROTOCOL, given)
    try:
        from isoserve.service.observability.tracing.spans import Tracing
    except ImportError as error:
        log.error("no traces: %s is missing, pip install 'isoserve[otel]'", error.name)
        return None
    return Tracing(count_dropped)


def asked_for(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a receiver of traces."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environment.get("OTEL_TRACES_EXPORTER", "")
    if exporters:
        return "otlp" in (name.strip() for name in exporters.split(","))
    return any(environment.get(name) for name in ENDPOINTS)
