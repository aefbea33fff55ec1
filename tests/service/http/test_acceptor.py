"""Workers that share a socket, here on one event loop, so that whose turn it is is no chance."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from isoserve.service.http.acceptor import Acceptor, ConnectionTable, WorkerSlot


class Worker:
    """Has some connections from the start and counts those that it is given."""

    def __init__(
        self, listener: socket.socket, table: ConnectionTable, index: int, had: int
    ) -> None:
        self.had = had
        self.taken: list[asyncio.BaseTransport] = []
        self.listener = listener.dup()  # as in a process of its own
        self.acceptor = Acceptor(
            self.listener,
            WorkerSlot(table, index),
            self.protocol,
            lambda: self.had + len(self.taken),
        )

    def protocol(self) -> asyncio.Protocol:
        worker = self

        class Taken(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                worker.taken.append(transport)

        return Taken()

    def leave(self) -> None:
        self.acceptor.close()
        self.listener.close()
        for transport in self.taken:
            transport.close()


async def shared_out(clients: int, had: list[int], away: int = 0) -> list[int]:
    """How many of the clients each worker gets; ``away`` workers of the table never come."""
    table = ConnectionTable(multiprocessing.get_context("spawn"), len(had) + away)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener, ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        workers = [Worker(listener, table, index, each) for index, each in enumerate(had)]
        async with asyncio.timeout(30):
            while sum(len(worker.taken) for worker in workers) < clients:
                await asyncio.sleep(0.01)
        for worker in workers:
            worker.leave()
        await asyncio.sleep(0)
    return [len(worker.taken) for worker in workers]


def run(scenario: Coroutine[Any, Any, list[int]]) -> list[int]:
    return asyncio.run(scenario)


@pytest.mark.parametrize(
    ("clients", "had", "got"),
    [(8, [0, 0], [4, 4]), (60, [0, 0, 0], [20, 20, 20]), (6, [5, 0], [1, 5])],
)
def test_connections_that_wait_together_are_shared_out_evenly(
    clients: int, had: list[int], got: list[int]
) -> None:
    assert run(shared_out(clients, had)) == pytest.approx(got, abs=1)


def test_a_worker_that_is_away_is_not_waited_for() -> None:
    assert run(shared_out(10, [7], away=2)) == [10]


def test_a_worker_that_has_fewer_and_does_not_come_is_given_only_a_moment() -> None:
    async def scenario() -> list[int]:
        table = ConnectionTable(multiprocessing.get_context("spawn"), 2)
        table.set(1, 0)
        with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            worker = Worker(listener, table, 0, 3)
            async with asyncio.timeout(30):
                while len(worker.taken) < 5:
                    await asyncio.sleep(0.01)
            worker.leave()
            await asyncio.sleep(0)
        return [len(worker.taken)]

    assert run(scenario()) == [5]


def test_one_that_has_left_takes_nothing_and_is_not_waited_for() -> None:
    async def scenario() -> list[int]:
        table = ConnectionTable(multiprocessing.get_context("spawn"), 1)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            worker = Worker(listener, table, 0, 3)
            before = table.least()
            worker.leave()
            with socket.create_connection(listener.getsockname()):
                await asyncio.sleep(0.05)
            return [before, len(worker.taken), int(table.least() > 1_000_000)]

    assert run(scenario()) == [3, 0, 1]
