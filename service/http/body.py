"""Request bodies, read within a limit of bytes and of time, one by one and all together."""

from __future__ import annotations

import asyncio
import threading
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


INFLATED_SHARE = 4
"""Of the budget, a body may be inflated into this part: a kilobyte can grow to a megabyte, and
what costs its sender nothing must leave room for those that sent theirs whole."""


class BodyBudget:
    """Bytes of the bodies in memory, over all requests; asked from any thread."""

    def __init__(self, limit: int, count_refusal: Callable[[], None]) -> None:
        self._limit = limit
        self._count_refusal = count_refusal
        self._lock = threading.Lock()
        self._held = self._inflated = 0

    @property
    def inflated_limit(self) -> int:
        """The most bytes that compressed bodies may be inflated to, all together."""
        return self._limit // INFLATED_SHARE

    def change(self, hold: BodyHold, size: int, inflated: int) -> None:
        """Let ``hold`` have so many bytes from now on.

        Raises:
            Refused: 429, they are not to be had now.
            ClientGone: the request has ended meanwhile.
        """
        with self._lock:
            if hold.released:
                raise ClientGone
            held = self._held + size + inflated - hold.size - hold.inflated
            all_inflated = self._inflated + inflated - hold.inflated
            if held <= self._limit and all_inflated <= self.inflated_limit:
                self._held, self._inflated = held, all_inflated
                hold.size, hold.inflated = size, inflated
                return
        self._count_refusal()
        raise Refused(
            "bytes", "the bodies of others fill the memory set aside for them", closes=True
        )

    def release(self, hold: BodyHold) -> None:
        """Take back all that ``hold`` has; it gets no more."""
        with self._lock:
            self._held -= hold.size + hold.inflated
            self._inflated -= hold.inflated
            hold.size = hold.inflated = 0
            hold.released = True


class BodyHold:
    """What one request holds of the budget, until it is answered.

    Attributes:
        size, inflated: bytes of the body as it came, and of what it was inflated to.
        released: whether the request has ended.
    """

    __slots__ = ("_budget", "inflated", "released", "size")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.size = self.inflated = 0
        self.released = False

    @property
    def inflated_limit(self) -> int:
        """As :attr:`BodyBudget.inflated_limit`."""
        return self._budget.inflated_limit

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes of the body as it comes, where it is no longer small.

        Raises:
            Refused, ClientGone: as :meth:`BodyBudget.change`.
        """
        if size > SMALL_BYTES:
            self._budget.change(self, size, self.inflated)

    def inflate(self, size: int) -> None:
        """Hold ``size`` bytes of the inflated body.

        Raises:
            Refused, ClientGone: as :meth:`BodyBudget.change`.
        """
        self._budget.change(self, self.size, size)

    def release(self) -> None:
        """Give all of it back."""
        if self.size or self.inflated or not self.released:
            self._budget.release(self)


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """The whole body.

    ``scope["body_hold"]`` takes what exceeds :data:`SMALL_BYTES` from the budget of all.

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
