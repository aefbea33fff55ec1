"""Request bodies, read within a limit of bytes and of time, one by one and all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Receive, Scope

from isoserve.service.batching.admission import Refused
from isoserve.service.errors import Problem
from isoserve.service.http.disconnect import ClientGone

SMALL_BYTES = 64 * 1024
"""Bodies up to here do not count against the budget: the number of connections bounds them."""

LINGER_SECONDS = 1.0
"""A connection that is closed while its client still writes is reset, and the answer on it lost:
for this long what comes is thrown away first."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The most bytes of a body, and the longest it may take to arrive."""

    bytes: int
    seconds: float


class BodyBudget:
    """Bytes of the bodies in memory, over all requests; each gives back when it is answered."""

    def __init__(self, limit: int, count_refusal: Callable[[], None]) -> None:
        self._limit = limit
        self._count_refusal = count_refusal
        self._held = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Refused: 429, they are not to be had now.
        """
        if self._held + size > self._limit:
            self._count_refusal()
            raise Refused(
                "bytes", "the bodies of others fill the memory set aside for them", closes=True
            )
        self._held += size

    def give(self, size: int) -> None:
        """Hold so many bytes less."""
        self._held -= size


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """The whole body.

    ``scope["body_budget"]`` is asked for what exceeds :data:`SMALL_BYTES`, and
    ``scope["body_bytes"]`` is what it has given, for whoever ends the request to return.

    Raises:
        Problem: 413 over the limit of bytes, 408 over the limit of time, 429 over the budget.
        ClientGone: the connection closed first.
    """
    for name, value in scope["headers"]:
        # Zeros may come first in any number, more than Python converts; 20 digits hold the rest.
        if name == b"content-length" and value.isdigit() and int(value[-20:]) > limits.bytes:
            raise _too_large(limits.bytes)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _read(scope, receive, limits.bytes)
    except TimeoutError as error:
        raise Problem(
            408,
            "slow_body",
            f"the body had not arrived whole after {limits.seconds:g} s",
            closes=True,
        ) from error


async def linger(receive: Receive) -> None:
    """Throw away what a refused client still sends, for a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if size > SMALL_BYTES:
            _hold(scope, size)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _hold(scope: Scope, size: int) -> None:
    held = scope.get("body_bytes", 0)
    scope["body_budget"].take(size - held)
    scope["body_bytes"] = size


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "body_too_large", f"the body is over the limit of {limit} bytes", closes=True
    )
