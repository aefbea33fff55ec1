"""A generator that does not wait for answers: arrivals at a given rate, as from many strangers.

A closed loop slows down with its server and so never overloads it. Here requests are due at
exponentially distributed intervals; the time of each counts from when it was due, so that a
stalled server or generator is not flattered.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import uvloop

from benchmarks.serving.load import Post


@dataclass
class Outcome:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    answers: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    """By status: when each was due, in seconds from the first, and seconds from then to its end."""
    began: float = 0.0
    lost: int = 0
    offered: int = 0
    late: list[float] = field(default_factory=list)
    """Seconds from when each request was due to when the generator sent it."""
    seen: Callable[[int, bytes], None] | None = None
    """Called with the status and body of each answer."""

    def quantile_ms(self, status: int, share: float, since: float = 0.0) -> float:
        """Milliseconds within which that share of the answers of a status came.

        Args:
            status: the answers' status.
            share: 0 to 1.
            since: of the requests due so many seconds after the first, or later.
        """
        answers = self.answers.get(status, [])
        return _quantile_ms([seconds for due, seconds in answers if due >= since], share)

    def add(self, other: Outcome) -> None:
        """Count the requests of another run as of this one; each keeps its own beginning."""
        self.statuses.update(other.statuses)
        for status, answers in other.answers.items():
            self.answers.setdefault(status, []).extend(answers)
        self.lost += other.lost
        self.offered += other.offered
        self.late += other.late

    def late_ms(self, share: float) -> float:
        """Milliseconds that the generator itself was late, at that quantile."""
        return _quantile_ms(self.late, share)


def _quantile_ms(seconds: list[float], share: float) -> float:
    times = sorted(seconds) or [0.0]
    return 1e3 * times[min(len(times) - 1, int(share * len(times)))]


def offer(
    port: int,
    post: Post,
    rate: float,
    seconds: float,
    seen: Callable[[int, bytes], None] | None = None,
) -> Outcome:
    """Offer ``rate`` requests a second for so long, bodies by chance; wait for the last answers."""
    return uvloop.run(_offer(port, post, rate, seconds, Outcome(seen=seen)))


async def _offer(port: int, post: Post, rate: float, seconds: float, outcome: Outcome) -> Outcome:
    headers = "".join(f"{key}: {value}\r\n" for key, value in post.headers.items())
    requests = [
        f"POST {post.path} HTTP/1.1\r\nHost: x\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in post.bodies
    ]
    loop = asyncio.get_running_loop()
    idle = deque[_Connection]()
    busy: set[_Connection] = set()
    chance = random.Random(0)
    outcome.began = due = perf_counter()
    end = due + seconds
    while due < end:
        if (pause := due - perf_counter()) > 0.001:
            await asyncio.sleep(pause)
        elif outcome.offered % 32 == 0:
            await asyncio.sleep(0)  # let answers be read when the generator is behind
        while idle and idle[-1].closed:
            idle.pop()
        if idle:
            connection = idle.pop()
        else:
            connection = _Connection(outcome, idle, busy)
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)
        outcome.late.append(perf_counter() - due)
        connection.ask(chance.choice(requests), due)
        outcome.offered += 1
        due += chance.expovariate(rate)
    while busy and perf_counter() < end + 10:
        await asyncio.sleep(0.05)
    for connection in [*idle, *busy]:
        connection.transport.close()
    outcome.lost += len(busy)
    return outcome


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, outcome: Outcome, idle: deque[_Connection], busy: set[_Connection]) -> None:
        self.closed = False
        self._outcome, self._idle, self._busy = outcome, idle, busy
        self._due = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def ask(self, request: bytes, due: float) -> None:
        """Send one request."""
        self._due, self._received = due, b""
        self._busy.add(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        status = int(head[9:12])
        self._outcome.statuses[status] += 1
        if self._outcome.seen:
            self._outcome.seen(status, body)
        answers = self._outcome.answers.setdefault(status, [])
        answers.append((self._due - self._outcome.began, perf_counter() - self._due))
        self._busy.discard(self)
        self._idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.closed = True
        if self in self._busy:
            self._busy.discard(self)
            self._outcome.lost += 1
