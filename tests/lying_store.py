"""A store that lies: it passes requests on to a real one, and changes some answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Answer:
    """Of the real store, to be changed."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int = 0
    """Bytes of the body that are promised and never sent."""


Lie = Callable[[str, str, Answer], None]
"""Method, path, answer."""


@dataclass
class LyingStore:
    """Where it listens, and what it does to answers; ``lie`` may be changed at any time."""

    url: str
    lie: Lie = field(default=lambda *_: None)


@contextmanager
def lying_store(real: str) -> Iterator[LyingStore]:
    """In front of the store at the URL ``real``."""
    target = urlsplit(real).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            connection = http.client.HTTPConnection(target, timeout=30)
            connection.request(self.command, self.path, self.rfile.read(length), dict(self.headers))
            got = connection.getresponse()
            said = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
            connection.close()
            store.lie(self.command, urlsplit(self.path).path, said)
            self.send_response_only(said.status)
            for name in ("connection", "transfer-encoding", "server", "date"):
                said.headers.pop(name, None)
            if self.command != "HEAD":
                said.headers["content-length"] = str(len(said.body))
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body[: len(said.body) - said.cut])
            self.close_connection = bool(said.cut)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store = LyingStore(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
