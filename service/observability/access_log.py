"""One line per request: what was asked and answered and how long it took; never the image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from isoserve.models.image_files.header import format_of
from isoserve.service.observability.log_writer import LogWriter, as_line
from isoserve.service.observability.request_record import RequestRecord

LOGGER = "isoserve.access"

QUIET_ROUTES = frozenset(
    (
        *("/healthz/live", "/healthz/ready", "/v2/health/live", "/v2/health/ready", "/metrics"),
        *("grpc ServerLive", "grpc ServerReady"),
    )
)
"""Asked every few seconds by machines: logged only where the answer is an error."""

Document = dict[str, Any]


class AccessLog:
    """Hands each finished request to the log's writer.

    The writer's thread composes the lines, many at a time: on the event loop, between other
    things, composing one costs the processor's caches four times as much.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._offer = writer.offer
        self._compose = _as_json if writer.log_format == "json" else _as_text

    def add(self, record: RequestRecord) -> None:
        """Log a request that has ended; does not wait."""
        if record.status >= 400 or record.route not in QUIET_ROUTES:
            self._offer(self._compose, record)


def describe(record: RequestRecord) -> Document:
    """The members of the line's JSON: those alone that the request came to have."""
    document: Document = {
        "time": datetime.fromtimestamp(record.ended, UTC),
        "level": "info",
        "logger": LOGGER,
        "id": record.id,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "total_seconds": round(record.seconds, 6),
    }
    if record.caller:
        document["caller"] = record.caller
    if record.trace_id:
        document["trace_id"] = record.trace_id
    if record.reason:
        document["reason"] = record.reason
    if record.model:
        document["model"], document["version"] = record.model, record.version
    if len(record.images) == 1:
        _describe_image(record, document)
    elif record.images:
        _describe_images(record, document)
    return document


def _describe_image(record: RequestRecord, document: Document) -> None:
    (image,) = record.images
    if image is None:
        return
    if verdict := record.verdict(image):
        document["label"], document["p_value"], document["is_ood"] = verdict
    document["queue_wait_seconds"] = round(image.wait_seconds, 6)
    document["decode_seconds"] = round(image.decode_seconds, 6)
    document["inference_seconds"] = round(image.inference_seconds, 6)
    document["image_bytes"] = image.size
    document["image_format"] = (format_of(image.head) or "unknown") if image.head else "pixels"


def _describe_images(record: RequestRecord, document: Document) -> None:
    """Of several images: their verdicts in columns, and the longest of each stage."""
    verdicts = [image and record.verdict(image) for image in record.images]
    document["images"] = len(verdicts)
    document["rejected"] = sum(verdict.is_ood for verdict in verdicts if verdict)
    document["labels"] = [verdict and verdict.label for verdict in verdicts]
    document["p_values"] = [verdict and verdict.p_value for verdict in verdicts]
    images = [image for image in record.images if image is not None]
    if not images:
        return
    document["queue_wait_seconds"] = round(max(image.wait_seconds for image in images), 6)
    document["decode_seconds"] = round(max(image.decode_seconds for image in images), 6)
    document["inference_seconds"] = round(max(image.inference_seconds for image in images), 6)
    document["image_bytes"] = sum(image.size for image in images)


def _as_json(record: RequestRecord) -> bytes:
    return as_line(describe(record))


def _as_text(record: RequestRecord) -> bytes:
    request = f"{record.status} {record.method} {record.route}"
    parts = [f"INFO {LOGGER}: {request} {1e3 * record.seconds:.1f} ms"]
    if record.reason:
        parts.append(record.reason)
    if record.model:
        parts.append(f"{record.model}/{record.version}")
    verdicts = [image and record.verdict(image) for image in record.images]
    if len(verdicts) > 1:
        parts.append(
            f"{sum(verdict.is_ood for verdict in verdicts if verdict)} of {len(verdicts)} ood"
        )
    elif verdicts and verdicts[0]:
        label, p_value, ood = verdicts[0]
        parts.append(f"{label!r} {'ood' if ood else 'known'} p={p_value:.3g}")
    parts.append(f"(request {record.id})\n")
    return " ".join(parts).encode()
