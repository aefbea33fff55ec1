"""Requests written by hand on a connection, and what comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from image_bytes import colour
from running_server import RunningServer

RED = colour(255, 0, 0)


@contextmanager
def connection(server: RunningServer) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    assert where.hostname
    assert where.port
    with socket.create_connection((where.hostname, where.port), timeout=20) as opened:
        yield opened


def head(length: int | None, *lines: str) -> bytes:
    named = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join(["POST /v1/predict HTTP/1.1", "Host: x", *named, *lines, "", ""]).encode()


def until_closed(opened: socket.socket, *, may_reset: bool = False) -> bytes:
    """All that comes until the server closes, or resets where the client still writes."""
    received = b""
    with suppress(*[ConnectionResetError] if may_reset else []):
        while chunk := opened.recv(65536):
            received += chunk
    return received


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer.split(b" ", 2)[1])


def still_serves(server: RunningServer) -> bool:
    return server.post("/v1/predict", content=RED).status_code == 200
