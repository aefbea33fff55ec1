"""How several workers share the connections that come to their one listening socket.

Left to itself, the first worker to wake takes all that wait: of 8 connections often 8, and the
other cores idle for as long as they last. So each worker takes one at a time, and one that has
more than another lets the others go first for a moment.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext

YIELD_SECONDS = 0.002
"""Then it takes the connection itself: the others may be busy."""

FAILURE_SECONDS = 0.5
"""Between attempts where no connection can be taken, for want of descriptors or memory."""

_ABSENT = 2**31 - 1


class ConnectionTable:
    """How many connections each worker has, and that it lives, in memory that all of them share."""

    def __init__(self, context: SpawnContext, workers: int) -> None:
        self._beats = context.RawArray(ctypes.c_ulonglong, workers)
        self._counts = context.RawArray(ctypes.c_int, [_ABSENT] * workers)

    def set(self, index: int, connections: int) -> None:
        """The worker at this index has so many."""
        self._counts[index] = connections

    def leave(self, index: int) -> None:
        """The worker at this index takes none."""
        self._counts[index] = _ABSENT
        self._beats[index] = 0

    def beat(self, index: int) -> None:
        """The worker at this index is not stuck; to be said several times a second."""
        self._beats[index] += 1

    def beats(self, index: int) -> int:
        """How often it has said so; 0 of one that has not begun to serve."""
        counted: int = self._beats[index]
        return counted

    def least(self) -> int:
        """What the worker with the fewest has."""
        fewest: int = min(self._counts)
        return fewest


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """A worker's index in the table."""

    table: ConnectionTable
    index: int


class Acceptor:
    """Takes connections from the socket on the running event loop, until it is closed.

    Args:
        listener: listens already; workers share it.
        protocol: makes a connection's protocol.
        connections: how many this worker has.
    """

    def __init__(
        self,
        listener: socket.socket,
        slot: WorkerSlot,
        protocol: Callable[[], asyncio.Protocol],
        connections: Callable[[], int],
    ) -> None:
        self._listener = listener
        self._slot = slot
        self._protocol = protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener, self._on_connection)
        self.publish_connection_count()

    def publish_connection_count(self) -> int:
        """Tell the others how many connections there are here; to be called now and again."""
        connections = self._connections() + len(self._opening)
        self._slot.table.set(self._slot.index, connections)
        return connections

    def close(self) -> None:
        """Take no more connections."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        self._slot.table.leave(self._slot.index)

    async def wait_closed(self) -> None:
        """As of asyncio's servers; what this one took is in the server's own list."""

    def _on_connection(self) -> None:
        if self.publish_connection_count() > self._slot.table.least():
            self._wait(YIELD_SECONDS)
        else:
            self._take()

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._on_connection)
        self._take()

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another was first, or it has gone
            return
        except OSError:
            self._wait(FAILURE_SECONDS)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opening = self._loop.create_task(
            self._loop.connect_accepted_socket(self._protocol, connection)
        )
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        self.publish_connection_count()
