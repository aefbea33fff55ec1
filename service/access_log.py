"""A line a request: what was asked and answered and how long it took; never the image."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Any, NamedTuple

from models.image_files.header import format_of
from service.engine import Outputs
from service.job import Job
from service.logs import LogWriter, as_line
from service.request_record import RequestRecord
from service.verdicts import is_ood

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

    def add(self, record: RequestRecord) -> None:
        """Tell of a request that has been answered; does not wait."""
        if record.status < 400 and record.route in UNTOLD_ROUTES:
            return
        told = Told(
            time(),
            record.id,
            record.method,
            record.route,
            record.status,
            record.seconds,
            record.trace_id,
            record.reason,
            record.model,
            record.version,
            record.alpha,
            record.labels,
            [_of_image(job) for job in record.jobs],
        )
        self._offer(self._compose, told)


class ToldOfImage(NamedTuple):
    """Of one image; neither its bytes nor its model are held until the line is written."""

    outcome: tuple[Outputs, int] | None
    wait_seconds: float
    decode_seconds: float
    inference_seconds: float
    size: int
    head: bytes


class Told(NamedTuple):
    """Of one request, as it was when it ended."""

    time: float
    id: str
    method: str
    route: str
    status: int
    seconds: float
    trace_id: str
    reason: str
    model: str
    version: int
    alpha: float
    labels: Sequence[str]
    images: Sequence[ToldOfImage | None]


def _of_image(job: Job | None) -> ToldOfImage | None:
    if job is None:
        return None
    return ToldOfImage(
        job.outcome,
        job.wait_seconds,
        job.decode_seconds,
        job.inference_seconds,
        job.size,
        job.head,
    )


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
    if verdict := _verdict(told, image):
        document["label"], document["p_value"], document["is_ood"] = verdict
    document["queue_wait_seconds"] = round(image.wait_seconds, 6)
    document["decode_seconds"] = round(image.decode_seconds, 6)
    document["inference_seconds"] = round(image.inference_seconds, 6)
    document["image_bytes"] = image.size
    document["image_format"] = (format_of(image.head) or "unknown") if image.head else "pixels"


def _describe_images(told: Told, document: Document) -> None:
    """Of several images: their verdicts in columns, and the longest of each stage."""
    verdicts = [image and _verdict(told, image) for image in told.images]
    document["images"] = len(verdicts)
    document["rejected"] = sum(is_ood for _, _, is_ood in filter(None, verdicts))
    document["labels"] = [verdict and verdict[0] for verdict in verdicts]
    document["p_values"] = [verdict and verdict[1] for verdict in verdicts]
    images = [image for image in told.images if image is not None]
    if not images:
        return
    document["queue_wait_seconds"] = round(max(image.wait_seconds for image in images), 6)
    document["decode_seconds"] = round(max(image.decode_seconds for image in images), 6)
    document["inference_seconds"] = round(max(image.inference_seconds for image in images), 6)
    document["image_bytes"] = sum(image.size for image in images)


def _verdict(told: Told, image: ToldOfImage) -> tuple[str, float, bool] | None:
    if image.outcome is None:
        return None
    outputs, row = image.outcome
    p_value = outputs.p_value[row]
    return told.labels[outputs.predicted[row]], p_value, is_ood(p_value, told.alpha)


def _as_json(told: Told) -> bytes:
    return as_line(describe(told))


def _as_text(told: Told) -> bytes:
    words = [f"INFO {LOGGER}: {told.status} {told.method} {told.route} {1e3 * told.seconds:.1f} ms"]
    if told.reason:
        words.append(told.reason)
    if told.model:
        words.append(f"{told.model}/{told.version}")
    verdicts = [image and _verdict(told, image) for image in told.images]
    if len(verdicts) > 1:
        words.append(f"{sum(verdict[2] for verdict in verdicts if verdict)} of {len(verdicts)} ood")
    elif verdicts and verdicts[0]:
        label, p_value, ood = verdicts[0]
        words.append(f"{label!r} {'ood' if ood else 'known'} p={p_value:.3g}")
    words.append(f"(request {told.id})\n")
    return " ".join(words).encode()
