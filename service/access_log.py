"""A line a request: what was asked and answered and how long it took; never the image."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from models.image_files.header import format_of
from service.logs import LogWriter, as_line
from service.told import Told

LOGGER = "isoserve.access"

UNTOLD_ROUTES = frozenset(
    (
        *("/healthz/live", "/healthz/ready", "/v2/health/live", "/v2/health/ready", "/metrics"),
        *("grpc ServerLive", "grpc ServerReady"),
    )
)
"""Asked every few seconds by machines: only told where the answer is an error."""

Document = dict[str, Any]


class AccessLog:
    """Hands what is to be told of each finished request to the log's writer.

    The writer's thread composes the lines, many at a time: on the event loop, between other
    things, composing one costs the processor's caches four times as much.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._offer = writer.offer
        self._compose = _as_json if writer.log_format == "json" else _as_text

    def add(self, told: Told) -> None:
        """Tell of a request that has ended; does not wait."""
        if told.status >= 400 or told.route not in UNTOLD_ROUTES:
            self._offer(self._compose, told)


def describe(told: Told) -> Document:
    """The members of the line's JSON: those alone that the request came to have."""
    document: Document = {
        "time": datetime.fromtimestamp(told.time, UTC),
        "level": "info",
        "logger": LOGGER,
        "id": told.id,
        "method": told.method,
        "route": told.route,
        "status": told.status,
        "total_seconds": round(told.seconds, 6),
    }
    if told.trace_id:
        document["trace_id"] = told.trace_id
    if told.reason:
        document["reason"] = told.reason
    if told.model:
        document["model"], document["version"] = told.model, told.version
    if len(told.images) == 1:
        _describe_image(told, document)
    elif told.images:
        _describe_images(told, document)
    return document


def _describe_image(told: Told, document: Document) -> None:
    (image,) = told.images
    if image is None:
        return
    if verdict := told.verdict(image):
        document["label"], document["p_value"], document["is_ood"] = verdict
    document["queue_wait_seconds"] = round(image.wait_seconds, 6)
    document["decode_seconds"] = round(image.decode_seconds, 6)
    document["inference_seconds"] = round(image.inference_seconds, 6)
    document["image_bytes"] = image.size
    document["image_format"] = (format_of(image.head) or "unknown") if image.head else "pixels"


def _describe_images(told: Told, document: Document) -> None:
    """Of several images: their verdicts in columns, and the longest of each stage."""
    verdicts = [image and told.verdict(image) for image in told.images]
    document["images"] = len(verdicts)
    document["rejected"] = sum(verdict.is_ood for verdict in verdicts if verdict)
    document["labels"] = [verdict and verdict.label for verdict in verdicts]
    document["p_values"] = [verdict and verdict.p_value for verdict in verdicts]
    images = [image for image in told.images if image is not None]
    if not images:
        return
    document["queue_wait_seconds"] = round(max(image.wait_seconds for image in images), 6)
    document["decode_seconds"] = round(max(image.decode_seconds for image in images), 6)
    document["inference_seconds"] = round(max(image.inference_seconds for image in images), 6)
    document["image_bytes"] = sum(image.size for image in images)


def _as_json(told: Told) -> bytes:
    return as_line(describe(told))


def _as_text(told: Told) -> bytes:
    words = [f"INFO {LOGGER}: {told.status} {told.method} {told.route} {1e3 * told.seconds:.1f} ms"]
    if told.reason:
        words.append(told.reason)
    if told.model:
        words.append(f"{told.model}/{told.version}")
    verdicts = [image and told.verdict(image) for image in told.images]
    if len(verdicts) > 1:
        words.append(
            f"{sum(verdict.is_ood for verdict in verdicts if verdict)} of {len(verdicts)} ood"
        )
    elif verdicts and verdicts[0]:
        label, p_value, ood = verdicts[0]
        words.append(f"{label!r} {'ood' if ood else 'known'} p={p_value:.3g}")
    words.append(f"(request {told.id})\n")
    return " ".join(words).encode()
