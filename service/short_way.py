"""The short way of a plain predict request: from its bytes to the queue and back without ASGI.

Most requests post one small image to ``/v1/predict``. Running the application for one costs a
task, a timer, and several coroutines, which is more than all that has to be done for it. What is
unusual in any respect goes the long way; both ways ask :class:`PredictRoutes` the same questions.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, Protocol

from service.answer import body_headers, problem_headers
from service.body import SMALL_BYTES
from service.exchange import CLIENT_GONE, failure, request_id_of
from service.finish import Finish
from service.head import RequestHead
from service.images import InvalidImage
from service.job import Job, ToAnswer
from service.problems import Problem
from service.request_record import Headers, RequestRecord
from service.routes.predict import PREDICT, PredictRoutes, problem_of
from service.versions import Served

_TARGET = PREDICT.encode()
_WITH_QUERY = _TARGET + b"?"
_LONG_WAY = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class Connection(Protocol):
    """Where the answer goes."""

    def answer_short(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer; the exchange is over with that."""


class ShortWay:
    """Finds the requests that may take it, and answers them.

    Args:
        most_bytes: of a body.
    """

    def __init__(self, predict: PredictRoutes, finish: Finish, most_bytes: int) -> None:
        self.predict = predict
        self.finish = finish
        self._most_bytes = min(most_bytes, SMALL_BYTES)

    def begin(self, head: RequestHead, connection: Connection) -> ShortExchange | None:
        """The exchange of the request with this head; None: it goes the long way."""
        method, target, headers = head
        if method != b"POST" or not (target == _TARGET or target.startswith(_WITH_QUERY)):
            return None
        length = b""
        for name, value in headers:
            if name == b"content-length":
                length = value
            elif name in _LONG_WAY or (name == b"content-type" and b"multipart" in value.lower()):
                return None
        if not length.isdigit() or int(length) > self._most_bytes or b"#" in target:
            return None
        return ShortExchange(self, head, connection)


class ShortExchange:
    """One request on the short way; stands where uvicorn's cycle does while it lasts."""

    __slots__ = (
        "_connection",
        "_record",
        "_target",
        "_way",
        "body",
        "disconnected",
        "keep_alive",
        "response_complete",
    )
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(self, way: ShortWay, head: RequestHead, connection: Connection) -> None:
        self._way = way
        self._target = head.target
        self._connection = connection
        self._record = RequestRecord(request_id_of(head.headers), "POST", head.headers)
        self._record.route = PREDICT
        self.body = b""
        self.keep_alive = True
        self.response_complete = False
        self.disconnected = False

    def run(self) -> None:
        """Queue the image, now that the body is whole, or refuse it."""
        predict, record, body = self._way.predict, self._record, self.body
        try:
            query, served = predict.ask(self._target[len(_WITH_QUERY) :], record)
            if (refusal := predict.refusal()) is not None:
                self.settle(refusal)
                return
            large = predict.check(body)
            job = _ShortJob(self, served, predict.finish(query, served, record.id), large)
            record.has((job,))
            predict.submit((job,))
        except (InvalidImage, Problem) as error:
            self.settle(error)
        except Exception:
            self.settle(failure(record.id))

    def settle(self, answer: Any) -> None:
        """Write the answer, or the problem in its place."""
        record, status = self._record, 200
        if isinstance(answer, InvalidImage):
            answer = problem_of(answer)
        if isinstance(answer, Problem):
            problem, status, record.reason = answer, answer.status, answer.reason
            answer = problem.body(record.id)
            headers = problem_headers(problem, answer)
        else:
            headers = body_headers(answer)
        headers.append((b"x-request-id", record.id.encode()))
        self._connection.answer_short(status, headers, answer)
        self._end(status)

    def leave(self) -> None:
        """The client has gone: its image is not computed, if it still waits."""
        self.disconnected = True
        self._end(CLIENT_GONE)

    def _end(self, status: int) -> None:
        record = self._record
        record.status = status
        record.seconds = perf_counter() - record.started
        self._way.finish(record)


class _ShortJob(Job):
    __slots__ = ("_exchange",)

    def __init__(
        self, exchange: ShortExchange, served: Served, finish: ToAnswer, large: bool
    ) -> None:
        super().__init__(served, exchange.body, finish, large)
        self._exchange = exchange

    @property
    def gone(self) -> bool:
        return self._exchange.disconnected

    def settle(self, answer: Any) -> None:
        self._exchange.settle(answer)


class _Answered:
    """Stands where a cycle does, for a request the application never saw."""

    response_complete = True
    disconnected = False
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


ANSWERED: Any = _Answered()
