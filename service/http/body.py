"""Request bodies, read within a limit of bytes and of time, one by one and all together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Receive, Scope

from isoserve.service.batching.body_budget import BodyHold
from isoserve.service.batching.errors import QueueFull
from isoserve.service.errors import Problem
from isoserve.service.http.disconnect import ClientGone
from isoserve.service.http.problems import problem_of

LINGER_SECONDS = 1.0
"""A connection that is closed while its client still writes is reset, and the answer on it lost:
for this long what comes is thrown away first."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The most bytes of a body, and the longest it may take to arrive."""

    bytes: int
    seconds: float


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """The whole body.

    ``scope["body_hold"]`` takes what exceeds ``SMALL_BYTES`` from the budget of all.

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
    except QueueFull as error:
        raise problem_of(error, closes=True) from error
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
    hold: BodyHold = scope["body_hold"]
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
        hold.grow(size)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(
        413, "body_too_large", f"the body is over the limit of {limit} bytes", closes=True
    )
