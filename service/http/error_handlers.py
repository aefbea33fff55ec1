"""Errors that leave a route -> the answers to them, in the form that the path's clients read."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from isoserve.service.batching.errors import PredictionError
from isoserve.service.errors import CONTENT_TYPE, Problem, allow_of
from isoserve.service.http.body import linger
from isoserve.service.http.disconnect import ClientGone
from isoserve.service.http.problems import problem_of
from isoserve.service.inference.images import InvalidImage
from isoserve.service.inference_protocol.errors import CONTENT_TYPE as PROTOCOL_CONTENT_TYPE
from isoserve.service.inference_protocol.errors import error_body, is_of_protocol
from isoserve.service.observability.log_writer import about
from isoserve.service.observability.request_id import CLIENT_GONE

log = logging.getLogger("isoserve.http")


class ProblemResponse(Response):
    """A problem document, or under ``/v2`` the inference protocol's form of it."""

    def __init__(self, problem: Problem, scope: Scope) -> None:
        scope["record"].reason = problem.reason
        body, content_type = error_document(problem, scope["path"], scope["request_id"])
        super().__init__(body, problem.status, problem.headers, content_type)
        self._closes = problem.closes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._closes:
            await super().__call__(scope, receive, send)
            return
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await linger(receive)
        await send({"type": "http.response.body", "body": b""})


def error_document(problem: Problem, path: str, request_id: str) -> tuple[bytes, str]:
    """The body that a path's clients read, and its content type."""
    if is_of_protocol(path):
        return error_body(problem), PROTOCOL_CONTENT_TYPE
    return problem.body(request_id), CONTENT_TYPE


def failure(request_id: str) -> Problem:
    """The answer to a request that met an error of the server's own; the error is logged."""
    log.exception("a request failed", extra=about(request_id))
    return _internal()


def add_error_handlers(api: FastAPI) -> None:
    """Have every error of a route answered."""
    api.add_exception_handler(Problem, _answer_problem)
    api.add_exception_handler(PredictionError, _answer_refusal)
    api.add_exception_handler(InvalidImage, _answer_refusal)
    api.add_exception_handler(ClientGone, _answer_nobody)
    api.add_exception_handler(HTTPException, _answer_http_exception)
    api.add_exception_handler(RequestValidationError, _answer_validation_error)
    api.add_exception_handler(Exception, _answer_failure)


def _internal() -> Problem:
    return Problem(500, "internal", "the server failed; the request id names its log")


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return ProblemResponse(error, request.scope)


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, (InvalidImage, PredictionError))
    return ProblemResponse(problem_of(error, request.scope["headers"]), request.scope)


async def _answer_nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=CLIENT_GONE)


async def _answer_failure(request: Request, error: Exception) -> Response:  # noqa: ARG001
    # It is raised again after this answer, and logged by RequestMiddleware.
    return ProblemResponse(_internal(), request.scope)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if is_of_protocol(request.url.path):
        if error.status_code == 404:
            detail = f"no route '{request.url.path[:128]}'"
        elif error.status_code == 405:
            detail = f"{request.method} is not allowed here"
    problem = Problem(error.status_code, "http", detail)
    problem.headers.update({name.lower(): value for name, value in (error.headers or {}).items()})
    if "allow" in problem.headers:
        problem.headers["allow"] = allow_of(problem.headers["allow"].split(", "))
    return ProblemResponse(problem, request.scope)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    problem = Problem(422, "bad_parameter", f"{where}: {first['msg']}")
    return ProblemResponse(problem, request.scope)
