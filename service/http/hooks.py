"""What a connection may cost, and which hooks decide on a request whose body has not been read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isoserve.service.errors import Problem
from isoserve.service.http.fast_exchange import Connection, FastPathExchange
from isoserve.service.http.request_head import RequestHead


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The most connections, bytes of a request's head, and seconds of silence."""

    connections: int
    header_bytes: int
    header_seconds: float
    """From the first byte of a request, or from the connection, to the end of its headers."""
    idle_seconds: float
    """Between an answer and the next request, and for an answer to be taken."""


class ConnectionHooks(Protocol):
    """What the application says of connections and of requests whose body has not been read."""

    def ended(self, reason: str) -> None:
        """A connection was ended here."""

    def refusal(self, head: RequestHead) -> tuple[Problem, str] | None:
        """Why this request would be refused whatever it brings, if it would be, and its id.

        Under overload most requests are, and this is a fifth of the work of running the
        application to find that out.
        """

    def fast_path(self, head: RequestHead, connection: Connection) -> FastPathExchange | None:
        """The exchange of a request that need not go through the application."""
