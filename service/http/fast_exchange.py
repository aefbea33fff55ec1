"""A request that is answered without ASGI; stands where uvicorn's cycle does while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

from isoserve.service.batching.errors import PredictionError
from isoserve.service.batching.image_cost import ImageCost
from isoserve.service.batching.job import Job, ResponseBuilder
from isoserve.service.batching.predictor import Predictor
from isoserve.service.errors import Problem
from isoserve.service.http.error_handlers import error_document, failure
from isoserve.service.http.problems import problem_of
from isoserve.service.http.request_head import RequestHead
from isoserve.service.http.responses import problem_headers
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference.outputs import Pixels
from isoserve.service.observability.request_id import CLIENT_GONE, request_id_of
from isoserve.service.observability.request_observer import RequestObserver
from isoserve.service.observability.request_record import Headers, RequestRecord
from isoserve.service.repository.versions import ServingModel

Response = tuple[bytes, list[tuple[bytes, bytes]]]
"""Body and headers."""

Refusal = InvalidImage | PredictionError


class Connection(Protocol):
    """Where the answer goes."""

    def write_fast_path(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer; the exchange is over with that."""


class FastPathExchange:
    """One request on the fast path; what it asks is its kind's.

    Args:
        route: its label in metrics.
        then: takes the images, and the request's record at its end.
    """

    __slots__ = (
        "_connection",
        "_jobs",
        "_observer",
        "_predictor",
        "_waiting",
        "body",
        "disconnected",
        "keep_alive",
        "record",
        "response_complete",
    )
    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(
        self,
        head: RequestHead,
        route: str,
        connection: Connection,
        then: tuple[Predictor, RequestObserver],
    ) -> None:
        self._connection = connection
        self._predictor, self._observer = then
        self._jobs: Sequence[FastPathJob] = ()
        self._waiting = 0
        self.record = RequestRecord(request_id_of(head.headers), "POST", head.headers)
        self.record.route = route
        self.body = b""
        self.keep_alive = True
        self.response_complete = False
        self.disconnected = False

    def run(self) -> None:
        """Queue the images, now that the body is whole, or refuse it."""
        try:
            self._jobs = jobs = self._read()
            self._waiting = len(jobs)
            self.record.set_images([job.timing for job in jobs])
            self._predictor.submit(jobs)
        except (InvalidImage, PredictionError, Problem) as error:
            self._refuse(error)
        except Exception:
            self._refuse(failure(self.record.id))

    def take(self) -> None:
        """One of the jobs has its answer; with the last one's the request is answered."""
        self._waiting -= 1
        if self._waiting:
            return
        try:
            response = self._response([job.answer for job in self._jobs])
        except (InvalidImage, PredictionError, Problem) as error:
            self._refuse(error)
        except Exception:
            self._refuse(failure(self.record.id))
        else:
            if isinstance(response, tuple):
                body, headers = response
                self._write(200, headers, body)
            else:
                self._refuse(response)

    def leave(self) -> None:
        """The client has gone: its images are not computed, if they still wait."""
        self.disconnected = True
        self._end(CLIENT_GONE)

    def _read(self) -> Sequence[FastPathJob]:
        """The images that the body brings, at least one.

        Raises:
            InvalidImage, PredictionError, Problem: it is refused.
        """
        raise NotImplementedError

    def _response(self, answers: Sequence[Any]) -> Response | Refusal:
        """What is answered, of what became of the images.

        An error among the answers is returned: raised, it would hold this frame, and that it.

        Raises:
            PredictionError, Problem: made here, it is answered.
        """
        raise NotImplementedError

    def _refuse(self, error: Refusal | Problem) -> None:
        record = self.record
        problem = error if isinstance(error, Problem) else problem_of(error, record.headers)
        record.reason = problem.reason
        body, content_type = error_document(problem, record.route, record.id)
        self._write(problem.status, problem_headers(problem, body, content_type), body)

    def _write(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers.append((b"x-request-id", self.record.id.encode()))
        self._connection.write_fast_path(status, headers, body)
        self._end(status)

    def _end(self, status: int) -> None:
        self._jobs = ()  # they lead here and to the images
        record = self.record
        record.status = status
        record.seconds = perf_counter() - record.started
        self._observer(record)


class FastPathJob(Job):
    """An image of an exchange, which waits for the answer."""

    __slots__ = ("_exchange", "answer")

    def __init__(
        self,
        exchange: FastPathExchange,
        served: ServingModel,
        source: bytes | Pixels,
        build_response: ResponseBuilder,
        cost: ImageCost,
    ) -> None:
        super().__init__(served, source, build_response, cost)
        self._exchange = exchange
        self.answer: Any = None

    @property
    def cancelled(self) -> bool:
        return self._exchange.disconnected

    def set_result(self, answer: Any) -> None:
        self.answer = answer
        self._exchange.take()


class _Completed:
    """Stands where a cycle does, for a request the application never saw."""

    response_complete = True
    disconnected = False
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


COMPLETED: Any = _Completed()
