"""A few image files -> their verdicts, by a model file here or by a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from isoserve.client.client import Client
from isoserve.client.exceptions import RequestRefused, ServerBusy
from isoserve.client.results import Problem
from isoserve.commands.image_paths import read_image
from isoserve.local_model import LoadOptions, LocalModel, Result
from isoserve.service.inference.verdicts import VerdictRequest
from isoserve.service.settings import Settings

Predictor: TypeAlias = Callable[[Sequence[Path]], list[Result]]
"""May be called from several threads at once; a result for each path, in order."""

LOCAL_SETTINGS = (
    *("alpha", "device", "engine", "precision", "slots", "max_batch", "max_model_bytes"),
    *("max_image_bytes", "max_pixels", "max_side", "max_jpeg_scans", "max_jpeg_pixels"),
    *("max_decode_seconds", "image_formats", "decide_by"),
)
"""What a model file here has in common with a server; no other setting is read."""

REMOTE_BYTES = 100 * 2**20
"""Of a file that is sent to a server at all; which are too large for it, it says itself."""

SAME_FOR_ALL = frozenset((200, 401, 403, 404, 405, 422, 501))
"""Statuses of a refusal that the next request would meet too: no token, no such model, a bad
parameter, or another program at that address (200, 405 and 501 among them)."""


class LocalPredictor:
    """A ``model.onnx`` in this process: as many calls at once as there are slots."""

    def __init__(self, path: Path, slots: int, settings: Settings, asked: VerdictRequest) -> None:
        self._model = LocalModel.read(
            path,
            LoadOptions(
                slots=slots,
                execution=settings.execution,
                max_batch=settings.max_batch,
                max_bytes=settings.max_model_bytes,
                images=settings.image_limits,
                decide_by=settings.decide_by,
            ),
        )
        self._asked = asked
        self._max_bytes = settings.max_image_bytes

    def __call__(self, paths: Sequence[Path]) -> list[Result]:
        return self._model.judge([_read(path, self._max_bytes) for path in paths], self._asked)


class RemotePredictor:
    """A server; what is not asked for, its settings decide."""

    def __init__(self, client: Client, alpha: float | None, top_k: int | None) -> None:
        self._client = client
        self._alpha = alpha
        self._top_k = top_k

    def __call__(self, paths: Sequence[Path]) -> list[Result]:
        found = [_read(path, REMOTE_BYTES) for path in paths]
        answers = iter(self._verdicts([body for body in found if isinstance(body, bytes)]))
        return [body if isinstance(body, Problem) else next(answers) for body in found]

    def _verdicts(self, bodies: list[bytes]) -> list[Result]:
        try:
            return self._client.predict_batch(bodies, alpha=self._alpha, top_k=self._top_k)
        except ServerBusy as busy:
            return [busy.problem for _ in bodies]
        except RequestRefused as refused:
            if refused.problem.status in SAME_FOR_ALL:
                raise
            if len(bodies) > 1:
                # The server's limits may be lower than a request of many; or one image is bad.
                return [result for body in bodies for result in self._verdicts([body])]
            return [refused.problem]


def _read(path: Path, limit: int) -> bytes | Problem:
    try:
        body = read_image(path, limit)
    except OSError as error:
        return Problem(0, "unreadable", error.strerror or str(error), "")
    if not body:
        return Problem(400, "empty", "the file is empty", "")
    if len(body) > limit:
        named = "" if limit == REMOTE_BYTES else " (ISOSERVE_MAX_IMAGE_BYTES)"
        detail = f"the file has more than {limit} bytes{named}"
        return Problem(413, "too_many_bytes", detail, "")
    return body
