"""Routes whose function reads the request itself, and need none of FastAPI's work on it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class DirectRoute(APIRoute):
    """Calls its function, which takes the request and gives the response, with nothing between.

    FastAPI's own handler reads the body and solves dependencies, for as long as a small network
    runs. Its router, its documents and its error handlers hold for these routes like for others.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function as it was declared."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler
