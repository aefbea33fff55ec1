"""The server in this process, for tests that hold, break or count what is inside it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from isoserve.service.app import Application, create_app
from isoserve.service.http.hooks import ConnectionLimits
from isoserve.service.http.protocol import limited_protocol
from isoserve.service.settings import Settings

STARTUP_SECONDS = 60


@contextmanager
def served(settings: Settings) -> Iterator[tuple[Application, httpx.Client]]:
    """The application, ready, and one connection to it over a real socket."""
    app = create_app(settings)
    http = limited_protocol(ConnectionLimits(10, 16_384, 10, 75), app)
    server = uvicorn.Server(uvicorn.Config(app, http=http, loop="uvloop", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                until = time.monotonic() + STARTUP_SECONDS
                while (said := client.get("/healthz/ready")).status_code != 200:
                    assert time.monotonic() < until, said.text
                    time.sleep(0.02)
                yield app, client
        finally:
            server.should_exit = True
            thread.join()
