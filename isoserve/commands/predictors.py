"""A few image files -> their verdicts, by a model file here or by a server."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from isoserve.client.client import Client
from isoserve.client.exceptions import RequestRefused, ServerBusy
from isoserve.client.results import Problem, Verdict
from isoserve.commands.image_paths import read_image
from isoserve.models.errors import InputError
from isoserve.service.inference.images import InvalidImage, check_header, decode
from isoserve.service.inference.model import ModelRefused, Pixels, load_model, read_model_bytes
from isoserve.service.inference.verdicts import VerdictRequest, verdict
from isoserve.service.settings import Settings

Result: TypeAlias = Verdict | Problem
Predictor: TypeAlias = Callable[[Sequence[Path]], list[Result]]
"""May be called from several threads at once; a result for each path, in order."""

SAME_FOR_ALL = frozenset((200, 401, 403, 404, 405, 422, 501))
"""Statuses of a refusal that the next request would meet too: no token, no such model, a bad
parameter, or another program at that address (200, 405 and 501 among them)."""


class LocalModel:
    """A ``model.onnx`` in this process: as many calls at once as there are slots.

    Each call decodes and infers in its caller's thread, on a single-threaded session of its own,
    so that one slot's decoding runs beside another's inference, as in the server.
    """

    def __init__(self, path: Path, slots: int, settings: Settings, asked: VerdictRequest) -> None:
        try:
            data = read_model_bytes(path, settings.max_model_bytes)
            self._model = load_model("file", 1, data, slots, settings.max_batch, settings.device)
        except ModelRefused as error:
            raise InputError(f"{path}: {error}") from error
        self._model.name = self._model.card.name
        self._asked = asked
        self._limits = settings.image_limits
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)

    def __call__(self, paths: Sequence[Path]) -> list[Result]:
        found = [self._pixels(path) for path in paths]
        pixels = [entry for entry in found if not isinstance(entry, Problem)]
        if not pixels:
            return [entry for entry in found if isinstance(entry, Problem)]
        slot = self._free.get()
        try:
            outputs = self._model.run(slot, np.stack(pixels))
        finally:
            self._free.put(slot)
        results: list[Result] = []
        row = 0
        for entry in found:
            if isinstance(entry, Problem):
                results.append(entry)
            else:
                results.append(Verdict.parse(verdict(self._model, self._asked, outputs, row)))
                row += 1
        return results

    def _pixels(self, path: Path) -> Pixels | Problem:
        body = _read(path, self._limits.max_bytes)
        if isinstance(body, Problem):
            return body
        try:
            check_header(body, self._limits)
            return decode(body, self._model.card.input, self._limits)
        except InvalidImage as error:
            return Problem(error.status, error.reason, str(error), "")


class RemoteModel:
    """A server; what is not asked for, its settings decide."""

    def __init__(
        self, client: Client, max_bytes: int, alpha: float | None, top_k: int | None
    ) -> None:
        self._client = client
        self._max_bytes = max_bytes
        self._alpha = alpha
        self._top_k = top_k

    def __call__(self, paths: Sequence[Path]) -> list[Result]:
        found = [_read(path, self._max_bytes) for path in paths]
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
        detail = f"the file has more than {limit} bytes (ISOSERVE_MAX_IMAGE_BYTES)"
        return Problem(413, "too_many_bytes", detail, "")
    return body
