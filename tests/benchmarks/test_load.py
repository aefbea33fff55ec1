"""What the closed loop counts, with a real ``wrk`` and a real server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest

from benchmarks.serving.load import Post, drive

NEEDS_WRK = pytest.mark.skipif(
    shutil.which("wrk") is None, reason="wrk is not installed: apt install wrk"
)
STATUSES = (200, 200, 429, 503)


class _Answers(BaseHTTPRequestHandler):
    """The statuses in turn."""

    protocol_version = "HTTP/1.1"
    numbers = count()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(STATUSES[next(self.numbers) % len(STATUSES)])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(name="port")
def _port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@NEEDS_WRK
def test_a_pause_is_made_before_each_request(port: int) -> None:
    load = drive(port, Post("/", [b"one"]), 2, 1, pause_ms=200)
    assert 1 <= load.requests <= 2 * 1000 / 200 + 2


@NEEDS_WRK
def test_answers_refusals_and_errors_are_counted_apart(port: int) -> None:
    load = drive(port, Post("/", [b"one", b"two"]), 2, 1)
    assert load.requests == load.answered + load.refused + load.errors
    assert load.answered == pytest.approx(load.requests / 2, abs=4)
    assert load.refused == pytest.approx(load.requests / 4, abs=4)
    assert load.errors == pytest.approx(load.requests / 4, abs=4)
