"""The fast path of a small request: from its bytes to the queue and back without ASGI.

Most requests bring a small image to ``/v1/predict``, or a few in a tensor. Running the application
for one costs a task, a timer, and several coroutines, which is more than all that has to be done
for it. What is unusual in any respect takes the ASGI path; both ask the same
:class:`~isoserve.service.batching.predictor.Predictor`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from isoserve.service.batching.body_budget import SMALL_BYTES
from isoserve.service.batching.predictor import Predictor, build_json
from isoserve.service.http.fast_exchange import (
    Connection,
    FastPathExchange,
    FastPathJob,
    Refusal,
    Response,
)
from isoserve.service.http.multipart import images_of_form, is_multipart
from isoserve.service.http.query import read_query
from isoserve.service.http.request_head import RequestHead, header_of
from isoserve.service.http.responses import body_headers
from isoserve.service.http.routes.predict import FILE_FIELD, PREDICT
from isoserve.service.http.routes.v2 import BINARY, HEADER_LENGTH, INFER, JSON
from isoserve.service.inference_protocol.answers import write_answer
from isoserve.service.inference_protocol.handler import Inference, as_row, rows_of
from isoserve.service.inference_protocol.requests import InferenceRequest, read_header_length
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.repository.versions import ServingModel

_PREDICT = PREDICT.encode()
_WITH_QUERY = _PREDICT + b"?"
_INFER = re.compile(rb"/v2/models/([\w.-]+)(?:/versions/([\w.-]+))?/infer")
_ASGI_PATH_HEADERS = frozenset(
    {b"content-encoding", b"expect", b"origin", b"transfer-encoding", b"upgrade"}
)


class FastPath:
    """Finds the requests that may take it, and answers them.

    Args:
        inference: answers those of ``/v2``.
        alpha: the operator's.
        most_bytes: of a body.
    """

    def __init__(
        self,
        predictor: Predictor,
        inference: Inference,
        observer: RequestObserver,
        alpha: float,
        most_bytes: int,
    ) -> None:
        self.inference = inference
        self.then = (predictor, observer)
        self.alpha = alpha
        self._most_bytes = min(most_bytes, SMALL_BYTES)

    def begin(self, head: RequestHead, connection: Connection) -> FastPathExchange | None:
        """The exchange of the request with this head; None: it takes the ASGI path."""
        method, target, headers = head
        of_predict = target == _PREDICT or (target.startswith(_WITH_QUERY) and b"#" not in target)
        named = None if of_predict else _INFER.fullmatch(target)
        if method != b"POST" or not (of_predict or named):
            return None
        length = b""
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif name in _ASGI_PATH_HEADERS:
                return None
        if not length.isdigit() or int(length) > self._most_bytes:
            return None
        if named is None:
            return PredictExchange(self, head, connection)
        return InferExchange(self, head, connection, named)


class PredictExchange(FastPathExchange):
    """A request to ``/v1/predict``: an image, or a form with one."""

    __slots__ = ("_path", "_target")

    def __init__(self, path: FastPath, head: RequestHead, connection: Connection) -> None:
        super().__init__(head, PREDICT, connection, path.then)
        self._path = path
        self._target = head.target

    def _read(self) -> Sequence[FastPathJob]:
        predictor, record, image = self._predictor, self.record, self.body
        query = read_query(self._target[len(_WITH_QUERY) :], self._path.alpha)
        served = predictor.resolve(query, record)
        if (refusal := predictor.refusal(served)) is not None:
            raise refusal.copy()  # not what has a name here: it would hold this frame, and that it
        if is_multipart(record.headers):
            (image,) = images_of_form(image, record.headers, FILE_FIELD, 1)
        cost = predictor.check(image, served.model.card.input)
        return (FastPathJob(self, served, image, build_json(query, served, record.id), cost),)

    def _response(self, answers: Sequence[Any]) -> Response | Refusal:
        (answer,) = answers
        return answer if isinstance(answer, Refusal) else (answer, body_headers(answer))


class InferExchange(FastPathExchange):
    """A request of the inference protocol; ``named``: the model's name and version in its path."""

    __slots__ = ("_asked", "_inference", "_served", "_target")
    _asked: InferenceRequest
    _served: ServingModel

    def __init__(
        self, path: FastPath, head: RequestHead, connection: Connection, named: re.Match[bytes]
    ) -> None:
        name, version = named.groups()
        super().__init__(head, INFER[version is not None], connection, path.then)
        self._inference = path.inference
        self._target = (name.decode(), None if version is None else version.decode())

    def _read(self) -> Sequence[FastPathJob]:
        inference, record, body = self._inference, self.record, self.body
        self._served = served = inference.served(*self._target)
        record.set_target(served.model, inference.alpha)
        reader = inference.reader(served)
        length = read_header_length(header_of(record.headers, HEADER_LENGTH), len(body))
        self._asked = asked = reader.read(body, length)
        costs = inference.check(asked.images, reader.spec)
        record.alpha = asked.alpha
        return [
            FastPathJob(self, served, image, as_row, cost)
            for image, cost in zip(asked.images, costs, strict=True)
        ]

    def _response(self, answers: Sequence[Any]) -> Response:
        body, json_bytes = write_answer(self._served.model, self._asked, rows_of(answers))
        if json_bytes is None:
            return body, body_headers(body, JSON.encode())
        length = (HEADER_LENGTH, b"%d" % json_bytes)
        return body, [length, *body_headers(body, BINARY.encode())]
