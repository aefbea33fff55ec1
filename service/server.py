"""One process that serves: the application under uvicorn, on a socket that listens already."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

from isoserve.service.app import create_app
from isoserve.service.batching.micro_batcher import SLOT_THREAD
from isoserve.service.http.acceptor import Acceptor, WorkerSlot
from isoserve.service.http.file_limits import grpc_connections, raise_file_limit
from isoserve.service.http.hooks import ConnectionLimits
from isoserve.service.http.protocol import close_expired, limited_protocol
from isoserve.service.observability.log_writer import LogWriter
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.settings import Settings

BACKLOG = 2048

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

TICKS_A_SWEEP = 5
"""uvicorn's loop ticks ten times a second."""


def serve_until_stopped(
    settings: Settings,
    listener: socket.socket,
    log_writer: LogWriter,
    slot: WorkerSlot | None = None,
    loader: ModelLoader | None = None,
) -> None:
    """Serve; on SIGTERM or SIGINT stop accepting, answer what has begun, and exit with 0.

    Args:
        slot: this worker's, where several share the listener.
        loader: one that has begun with the models already.
    """
    app = create_app(settings, log_writer, loader)
    room = raise_file_limit(settings.max_connections, grpc=settings.grpc_port > 0)
    limits = ConnectionLimits(
        room - grpc_connections(room) if settings.grpc_port else room,
        settings.max_header_bytes,
        settings.header_seconds,
        settings.idle_seconds,
    )
    app.grpc_connections = room - limits.connections
    config = uvicorn.Config(
        app,
        http=limited_protocol(limits, app),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        log_level="error",
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds)),
    )
    # uvicorn raises the signal again once it has stopped: by then all is answered.
    for number in STOP_SIGNALS:
        signal.signal(number, _stopped)
    handle_hangup(is_worker=slot is not None)
    _Server(config, app.metrics.sample, slot).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, sample: Callable[[], None], slot: WorkerSlot | None
    ) -> None:
        super().__init__(config)
        self._sample = sample
        self._slot = slot
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._slot is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self._acceptors = [
            Acceptor(each, self._slot, self._protocol, lambda: len(self.server_state.connections))
            for each in sockets or []
        ]
        self.servers += self._acceptors  # type: ignore[arg-type]  # as far as uvicorn asks

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # A second Ctrl-C drops the clients, which is not an error to be logged with its trace;
            # what the application holds is still saved.
            await self.lifespan.shutdown()
            logging.getLogger("uvicorn.error").disabled = True

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_SWEEP == 0:
            close_expired(self.server_state)
            self._sample()
        if self._slot is not None:
            self._slot.table.beat(self._slot.index)
        for acceptor in self._acceptors:
            acceptor.publish_connection_count()
        return await super().on_tick(counter)


def handle_hangup(*, is_worker: bool) -> None:
    """On SIGHUP go on, as a service should: repository and token files are read again anyhow.

    A terminal that closes sends it too: then stop as on SIGTERM, and answer what has begun. Of
    several processes the supervisor decides.
    """
    if not is_worker and sys.stderr.isatty():
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _stopped(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    # A second signal while the interpreter takes itself down must not turn this into a failure.
    for again in STOP_SIGNALS:
        signal.signal(again, signal.SIG_IGN)
    if any(thread.name.startswith(SLOT_THREAD) for thread in threading.enumerate()):
        # It runs a network that cannot be ended, and would do so while its memory is taken down.
        logging.shutdown()
        os._exit(0)
    sys.exit(0)
