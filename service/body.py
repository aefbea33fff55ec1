"""Request bodies, read within a limit of bytes and of time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Receive, Scope

from service.problems import Problem


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The most bytes of a body, and the longest it may take to arrive."""

    bytes: int
    seconds: float


class ClientGone(Exception):
    """The client closed the connection before its request was complete or answered."""


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 over the limit of bytes, 408 over the limit of time.
        ClientGone: the connection closed first.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limits.bytes:
            raise _too_large(limits.bytes)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _read(receive, limits.bytes)
    except TimeoutError as error:
        raise Problem(
            408, "slow_body", f"the body had not arrived whole after {limits.seconds:g} s"
        ) from error


async def _read(receive: Receive, limit: int) -> bytes:
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
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"the body is over the limit of {limit} bytes")
