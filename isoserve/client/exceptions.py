"""What a client raises when there is no answer, or the answer is no."""

from __future__ import annotations

from isoserve.client.results import Problem


class IsoserveError(Exception):
    """Whatever the client raises about a server or its answer."""


class Unreachable(IsoserveError):
    """No answer came: no connection, a broken one, or the time was up."""


class RequestRefused(IsoserveError):
    """The server answered with an error; :attr:`problem` says why and holds the request's id."""

    def __init__(self, problem: Problem) -> None:
        shown = f" (request {problem.id})" if problem.id else ""
        super().__init__(f"{problem.status} {problem.reason}: {problem.detail}{shown}")
        self.problem = problem


class ImageRefused(RequestRefused):
    """400, 413 or 415: the bytes are not an image that the server takes."""


class ServerBusy(RequestRefused):
    """429 or 503, still, after the retries that were allowed."""


def refusal(problem: Problem) -> RequestRefused:
    """The exception of a problem's status."""
    if problem.status in (400, 413, 415):
        return ImageRefused(problem)
    if problem.status in (429, 503):
        return ServerBusy(problem)
    return RequestRefused(problem)
