"""Requests written by hand on a connection, and what comes back."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from image_bytes import colour
from running_server import RunningServer

RED = colour(255, 0, 0)
PREDICT = "/v1/predict"


@contextmanager
def connection(server: RunningServer) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    assert where.hostname
    assert where.port
    with socket.create_connection((where.hostname, where.port), timeout=20) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def plain(body: bytes, query: str = "", *lines: str, path: str = PREDICT) -> bytes:
    """A request that takes the fast path."""
    named = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *lines))
    return f"POST {path}{query} HTTP/1.1\r\nHost: x\r\n{named}\r\n".encode() + body


def chunked(body: bytes, query: str = "", *lines: str, path: str = PREDICT) -> bytes:
    """The same request, for the ASGI path."""
    named = "".join(f"{line}\r\n" for line in ("Transfer-Encoding: chunked", *lines))
    head = f"POST {path}{query} HTTP/1.1\r\nHost: x\r\n{named}\r\n".encode()
    pieces = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return head + pieces + b"0\r\n\r\n"


def answers(opened: socket.socket, n: int) -> list[tuple[int, dict[str, str], bytes]]:
    """The next answers on a connection: status, headers, body."""
    received, found = b"", list[tuple[int, dict[str, str], bytes]]()
    while len(found) < n:
        head, separator, rest = received.partition(b"\r\n\r\n")
        size = re.search(rb"\ncontent-length: (\d+)", head)
        if separator and size and len(rest) >= int(size[1]):
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            found.append((int(first.split()[1]), headers, rest[: int(size[1])]))
            received = rest[int(size[1]) :]
            continue
        chunk = opened.recv(65536)
        assert chunk, received
        received += chunk
    return found
