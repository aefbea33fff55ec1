"""The fast path of a plain predict request: from its bytes to the queue and back without ASGI.

Most requests post one small image to ``/v1/predict``. Running the application for one costs a
task, a timer, and several coroutines, which is more than all that has to be done for it. What is
unusual in any respect takes the ASGI path; both ask :class:`Predictor` the same questions.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Protocol

from isoserve.service.batching.body_budget import SMALL_BYTES
from isoserve.service.batching.errors import PredictionError
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.batching.job import Job, ResponseBuilder
from isoserve.service.batching.predictor import Predictor, build_json
from isoserve.service.errors import Problem
from isoserve.service.http.error_handlers import failure
from isoserve.service.http.problems import problem_of
from isoserve.service.http.query import read_query
from isoserve.service.http.request_head import RequestHead
from isoserve.service.http.responses import body_headers, problem_headers
from isoserve.service.http.routes.predict import PREDICT
from isoserve.service.inference.images import InvalidImage
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import Headers, RequestRecord
from isoserve.service.repository.versions import ServingModel

_TARGET = PREDICT.encode()
_WITH_QUERY = _TARGET + b"?"
_ASGI_PATH_HEADERS = frozenset({b"expect", b"origin", b"transfer-encoding", b"upgrade"})


class Connection(Protocol):
    """Where the answer goes."""

    def write_fast_path(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer; the exchange is over with that."""


class FastPath:
    """Finds the requests that may take it, and answers them.

    Args:
        alpha: the operator's.
        most_bytes: of a body.
    """

    def __init__(
        self, predictor: Predictor, observer: RequestObserver, alpha: float, most_bytes: int
    ) -> None:
        self.predictor = predictor
        self.observer = observer
        self.alpha = alpha
        self._most_bytes = min(most_bytes, SMALL_BYTES)

    def begin(self, head: RequestHead, connection: Connection) -> FastPathExchange | None:
        """The exchange of the request with this head; None: it takes the ASGI path."""
        method, target, headers = head
        if method != b"POST" or not (target == _TARGET or target.startswith(_WITH_QUERY)):
            return None
        length = b""
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif name in _ASGI_PATH_HEADERS or (
                name == b"content-type" and b"multipart" in value.lower()
            ):
                return None
        if not length.isdigit() or int(length) > self._most_bytes or b"#" in target:
            return None
        return FastPathExchange(self, head, connection)


class FastPathExchange:
    """One request on the fast path; stands where uvicorn's cycle does while it lasts."""

    __slots__ = (
        "_connection",
        "_path",
        "_target",
        "body",
        "disconnected",
        "keep_alive",
        "record",
        "response_complete",
    )
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(self, path: FastPath, head: RequestHead, connection: Connection) -> None:
        self._path = path
        self._target = head.target
        self._connection = connection
        self.record = RequestRecord(request_id_of(head.headers), "POST", head.headers)
        self.record.route = PREDICT
        self.body = b""
        self.keep_alive = True
        self.response_complete = False
        self.disconnected = False

    def run(self) -> None:
        """Queue the image, now that the body is whole, or refuse it."""
        predictor, record, body = self._path.predictor, self.record, self.body
        try:
            query = read_query(self._target[len(_WITH_QUERY) :], self._path.alpha)
            served = predictor.resolve(query, record)
            if (refusal := predictor.refusal(served)) is not None:
                self.set_result(refusal)
                return
            cost = predictor.check(body, served.model.card.input)
            job = _FastPathJob(self, served, build_json(query, served, record.id), cost)
            record.set_images((job.timing,))
            predictor.submit((job,))
        except (InvalidImage, PredictionError, Problem) as error:
            self.set_result(error)
        except Exception:
            self.set_result(failure(record.id))

    def set_result(self, answer: Any) -> None:
        """Write the answer, or the problem in its place."""
        record, status = self.record, 200
        if isinstance(answer, (InvalidImage, PredictionError)):
            answer = problem_of(answer, record.headers)
        if isinstance(answer, Problem):
            problem, status, record.reason = answer, answer.status, answer.reason
            answer = problem.body(record.id)
            headers = problem_headers(problem, answer)
        else:
            headers = body_headers(answer)
        headers.append((b"x-request-id", record.id.encode()))
        self._connection.write_fast_path(status, headers, answer)
        self._end(status)

    def leave(self) -> None:
        """The client has gone: its image is not computed, if it still waits."""
        self.disconnected = True
        self._end(CLIENT_GONE)

    def _end(self, status: int) -> None:
        record = self.record
        record.status = status
        record.seconds = perf_counter() - record.started
        self._path.observer(record)


class _FastPathJob(Job):
    __slots__ = ("_exchange",)

    def __init__(
        self,
        exchange: FastPathExchange,
        served: ServingModel,
        build_response: ResponseBuilder,
        cost: ImageCost,
    ) -> None:
        super().__init__(served, exchange.body, build_response, cost)
        self._exchange = exchange

    @property
    def cancelled(self) -> bool:
        return self._exchange.disconnected

    def set_result(self, answer: Any) -> None:
        self._exchange.set_result(answer)


class _Completed:
    """Stands where a cycle does, for a request the application never saw."""

    response_complete = True
    disconnected = False
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


COMPLETED: Any = _Completed()
