"""What a connection may ask of the server before, beside and after its requests."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model
from uvicorn.server import ServerState

from isoserve.service.errors import Problem
from isoserve.service.http.hooks import ConnectionLimits
from isoserve.service.http.protocol import MOST_PIPELINED, limited_protocol

RED = colour(255, 0, 0)
LIVE = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module", name="hasty")
def _hasty(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server that does not wait long for a client."""
    root = tmp_path_factory.mktemp("hasty")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    return start_server(root, "--idle-seconds", "0.7", "--access-log")


@contextmanager
def connection(server: RunningServer, buffer: int = 0) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    with socket.socket() as opened:
        opened.settimeout(20)
        if buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        opened.connect((where.hostname, where.port))
        yield opened


def until_closed(opened: socket.socket) -> bytes:
    received = []
    with suppress(ConnectionResetError):
        while chunk := opened.recv(1 << 20):
            received.append(chunk)
    return b"".join(received)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


def metric(server: RunningServer, name: str) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: %d" % len(RED), RED),
        (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(RED), RED)),
    ],
)
def test_a_wish_for_another_protocol_is_passed_over_and_its_body_is_a_body(
    hasty: RunningServer, framing: bytes, body: bytes, in_one_piece: bool
) -> None:
    # As Java's client begins; a body taken for the next request could be an attacker's request.
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA"
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n%b\r\n%b\r\n\r\n" % (framing, wish)
    with connection(hasty) as opened:
        for _ in range(2):
            if in_one_piece:
                opened.sendall(head + body + LIVE)
            else:
                opened.sendall(head)
                time.sleep(0.1)
                opened.sendall(body + LIVE)
        assert statuses(until_closed(opened)) == [200, 200, 200, 200]


def test_nobody_is_connected_to_elsewhere(hasty: RunningServer) -> None:
    with connection(hasty) as opened:
        opened.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert statuses(until_closed(opened)) == [400]


def test_any_number_of_zeros_may_come_before_a_length(hasty: RunningServer) -> None:
    head = b"POST /v1/predict/batch HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data"
    with connection(hasty) as opened:
        opened.sendall(head + b"\r\nContent-Length: " + b"0" * 5000 + b"5\r\n\r\nhello")
        received = until_closed(opened)
    assert statuses(received) == [400]
    assert b"bad_multipart" in received


LONG, SHORT = b"GET /healthz/live", b"POST /v1/predict"
ONE_HOST, TWO_HOSTS, SAME_HOSTS = b"hOsT: x\r\n", b"Host: x\r\nHost: y\r\n", b"Host: x\r\n" * 2


@pytest.mark.parametrize("start", [LONG, SHORT])
@pytest.mark.parametrize(
    ("version", "hosts", "accepted"),
    [
        (b"1.1", ONE_HOST, True),
        (b"1.1", b"Host:\r\n", True),
        (b"1.1", b"", False),
        (b"1.1", b"X-Host: x\r\n", False),
        (b"1.1", TWO_HOSTS, False),
        (b"1.1", SAME_HOSTS, False),
        (b"1.0", b"", True),
        (b"1.0", TWO_HOSTS, False),
    ],
)
def test_a_request_names_one_host(
    hasty: RunningServer, start: bytes, version: bytes, hosts: bytes, accepted: bool
) -> None:
    head = b"%b HTTP/%b\r\n%bConnection: close\r\nContent-Length: " % (start, version, hosts)
    request = head + (b"%d\r\n\r\n%b" % (len(RED), RED) if start == SHORT else b"0\r\n\r\n")
    with connection(hasty) as opened:
        opened.sendall(request)
        received = until_closed(opened)
    assert statuses(received) == [200 if accepted else 400]
    if not accepted:
        assert b"content-type: application/problem+json" in received
        assert b'"bad_host"' in received
        assert b"RFC 9112" in received


def test_each_request_of_a_connection_has_its_own_host(hasty: RunningServer) -> None:
    request = b"%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (SHORT, len(RED), RED)
    with connection(hasty) as opened:
        for _ in range(2):
            opened.sendall(request)
            assert statuses(opened.recv(65536)) == [200]
        opened.sendall(request.replace(b"Host: x\r\n", b""))
        assert statuses(until_closed(opened)) == [400]


@pytest.mark.parametrize("path", [b"/healthz/live", b"/v1/predict"])
def test_trailers_are_not_kept(server: RunningServer, path: bytes) -> None:
    before = metric(server, "process_resident_memory_bytes")
    with connection(server) as opened:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" % path
        opened.sendall(head + b"a:b\r\n" * 2_000_000)
        after = metric(server, "process_resident_memory_bytes")
    assert after - before < 60e6  # kept, they take 180 MB


def test_pipelined_requests_are_bounded_and_what_was_taken_is_answered(
    hasty: RunningServer,
) -> None:
    count = 'isoserve_refused_connections_total{reason="too_many_pipelined"}'
    with connection(hasty) as opened:
        opened.sendall(LIVE * MOST_PIPELINED)
        assert statuses(until_closed(opened)) == [200] * MOST_PIPELINED
    assert metric(hasty, count) == 0
    with connection(hasty) as opened:
        opened.sendall(LIVE * (MOST_PIPELINED + 10))
        received = until_closed(opened)
    assert statuses(received) == [200] * (MOST_PIPELINED + 1)
    assert received.count(b"connection: close") == 1
    assert metric(hasty, count) == 1


def test_a_connection_whose_answers_are_not_taken_is_ended(hasty: RunningServer) -> None:
    asked = 50
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with connection(hasty, buffer=4096) as opened:
        with suppress(ConnectionError):  # on a slow machine it is ended before all is asked
            for _ in range(20):  # in rounds, so that they are not too many at a time
                opened.sendall(request * asked)
                time.sleep(0.05)
        time.sleep(2.5)
        assert len(statuses(until_closed(opened))) < 20 * asked
    hasty.get("/v1/models", headers={"X-Request-ID": "after-the-deaf"})
    hasty.wait_until(lambda: any("after-the-deaf" in line for line in hasty.log))
    said = "".join(hasty.log)
    assert "ERROR" not in said
    assert "Traceback" not in said


class _Transport:
    """Takes what is written, and can be closed."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def get_extra_info(self, name: str) -> None: ...

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _FullDoor:
    """Refuses every request before its body is read."""

    def ended(self, reason: str) -> None: ...

    def fast_path(self, head: object, connection: object) -> None: ...

    def refusal(self, head: object) -> tuple[Problem, str]:  # noqa: ARG002
        return Problem(429, "queue_full", "everything is full", retry_after=1), "an-id"


async def _silent(scope: Any, receive: Any, send: Any) -> None: ...


def test_refusals_do_not_pile_up_for_a_client_that_takes_none() -> None:
    async def run() -> tuple[bytes, bytes]:
        http = limited_protocol(ConnectionLimits(10, 16_384, 10, 75), _FullDoor())  # type: ignore[arg-type]
        config = uvicorn.Config(_silent, http=http, log_config=None)
        protocol = http(config, ServerState(), {})
        transport = _Transport()
        protocol.connection_made(transport)  # type: ignore[arg-type]
        protocol.data_received(LIVE)
        taken, transport.written = transport.written, b""
        protocol.pause_writing()
        protocol.data_received(LIVE * 10)
        return taken, transport.written

    taken, piled_up = asyncio.run(run())
    assert statuses(taken) == [429]
    assert piled_up == b""
