"""HTTP as monitors, proxies, shells and old clients speak it."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.observability.prometheus_text import takes_openmetrics

RED = colour(255, 0, 0)
POST = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(RED), RED)


def exchange(server: RunningServer, *pieces: bytes, half_close: bool = False) -> bytes:
    """What comes back until the server closes, or 20 s have passed."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port or 0), timeout=20) as opened:
        for piece in pieces:
            opened.sendall(piece)
            time.sleep(0.05)
        if half_close:
            opened.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := opened.recv(65536):
            received += chunk
        return received


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/docs", "/redoc", "/openapi.json", "/metrics", "/healthz/live", "/healthz/ready"),
        *("/v1/models", "/v1/models/tiny", "/v1/models/tiny/drift", "/web/app.js"),
        *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"),
        "/static-offline-docs/swagger-ui.css",
    ],
)
def test_head_is_answered_as_get_without_its_body(server: RunningServer, path: str) -> None:
    got = server.get(path)
    head = server.request("HEAD", path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.status_code == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # which has grown meanwhile
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_connection_goes_on_after_head(server: RunningServer) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(2):
            assert client.head("/v2").status_code == 200
            assert client.post("/v1/predict", content=RED).status_code == 200


@pytest.mark.parametrize("path", ["/v1/predict", "/v2/models/tiny/infer"])
def test_head_where_only_post_is_names_post(server: RunningServer, path: str) -> None:
    refused = server.request("HEAD", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/healthz/live", "/v2"])
def test_what_may_be_asked_instead_names_head(server: RunningServer, path: str) -> None:
    assert server.request("DELETE", path).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v1/predict/", "/v1/predict/?top_k=2", "/v2/models/tiny/"])
def test_a_slash_at_the_end_is_no_other_place(server: RunningServer, path: str) -> None:
    method = "POST" if "predict" in path else "GET"
    answer = server.request(method, path, content=RED, headers={"host": "evil.example"})
    assert answer.status_code == 200
    assert "location" not in answer.headers


def test_a_slash_at_the_end_of_other_routes(server: RunningServer) -> None:
    for path in ("/healthz/live/", "/v1/models/", "/v1/models/tiny/", "/metrics/", "/docs/"):
        assert server.get(path, follow_redirects=False).status_code == 200
    files = [("files", RED)]
    assert server.post("/v1/predict/batch/", files=files).status_code == 200
    assert server.get("/v1/nothing/").status_code == 404


MALFORMED = [
    b"zz\r\n",
    b"-1\r\n",
    b"\r\n",
    b"5 5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"fffffffffffffffff\r\n",
    ONE_CHUNK[:-2] + b"XX",
    ONE_CHUNK[:-2] + b"0\r\n\r\n",
    ONE_CHUNK + b"g\r\n",
    ONE_CHUNK + b"0\r\nno header\r\n\r\n",
    b"5;\x00=1\r\nhello\r\n",
]


@pytest.mark.parametrize("path", [b"/v1/predict", b"/v1/predict/batch", b"/v2/models/tiny/infer"])
@pytest.mark.parametrize("in_one_piece", [True, False])
@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_chunked_body_is_400(
    server: RunningServer, body: bytes, in_one_piece: bool, path: bytes
) -> None:
    head = CHUNKED.replace(b"/v1/predict", path)
    if b"batch" in path:
        kind = b"Content-Type: multipart/form-data; boundary=b"
        head = head.replace(b"\r\n\r\n", b"\r\n" + kind + b"\r\n\r\n")
    received = exchange(server, head + body) if in_one_piece else exchange(server, head, body)
    assert statuses(received) == [400]
    assert b"malformed_request" in received
    assert b"connection: close" in received


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity", b"chunked, chunked"])
def test_an_unknown_transfer_coding_is_501(server: RunningServer, coding: bytes) -> None:
    received = exchange(server, POST + b"Transfer-Encoding: %b\r\n\r\n" % coding + ONE_CHUNK)
    assert statuses(received) in ([501], [400] if coding != b"gzip, chunked" else [501])


def test_what_came_whole_before_a_malformed_request_is_answered(server: RunningServer) -> None:
    good = POST + b"Content-Length: %d\r\n\r\n" % len(RED) + RED
    live = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
    assert statuses(exchange(server, good + b"\x00\x01 nonsense\r\n\r\n"))[0] == 200
    assert statuses(exchange(server, good + live + CHUNKED + b"zz\r\n"))[:2] == [200, 200]


def test_a_client_that_closed_its_side_gets_its_answer(server: RunningServer) -> None:
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(RED)
    received = exchange(server, whole + RED, half_close=True)
    assert statuses(received) == [200]
    assert b'"red"' in received
    many = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" * 3
    assert statuses(exchange(server, many, half_close=True)) == [200, 200, 200]


@pytest.mark.parametrize("path", [b"/v1/predict", b"/v1/predict/"])
def test_a_client_that_closed_its_side_waits_its_turn_in_the_queue(
    start_server: StartServer, tmp_path: Path, path: bytes
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", TinyModel(work=100))
    slow = start_server(tmp_path, "--slots", "1", "--max-batch", "1", "--queue-seconds", "30")
    whole = POST.replace(b"/v1/predict", path) + b"Content-Length: %d\r\n\r\n" % len(RED) + RED
    found: list[bytes] = []

    def ask() -> None:
        found.append(exchange(slow, whole, half_close=True))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for received in found:
        assert set(statuses(received)) - {100} == {200}
        assert received.count(b'"red"')


def test_half_a_request_of_such_a_client_is_not_waited_for(server: RunningServer) -> None:
    began = time.monotonic()
    head = POST + b"Content-Length: %d\r\n\r\n" % len(RED)
    assert statuses(exchange(server, head + RED[:10], half_close=True)) in ([], [400])
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_drops_nothing(start_server: StartServer, tmp_path: Path, workers: str) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", TinyModel(work=20))
    server = start_server(tmp_path, "--workers", workers, "--slots", "1")
    found: list[int] = []

    def ask() -> None:
        found.extend(server.post("/v1/predict", content=RED).status_code for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.05)
        os.kill(server.process.pid, signal.SIGHUP)
    for thread in threads:
        thread.join()
    assert found == [200] * 10
    assert server.process.poll() is None
    assert server.stop() == 0


def test_the_documentation_works_under_any_prefix(server: RunningServer) -> None:
    page = server.get("/docs").text
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"|url: '([^']+)'", page)
    named = [one or other for one, other in addresses]
    assert any("openapi.json" in address for address in named)
    for address in named:
        assert not address.startswith("/")
        found = httpx.URL(server.url + "/docs").join(address)
        assert httpx.get(found).status_code == 200
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", server.get("/docs/").text):
        assert httpx.get(httpx.URL(server.url + "/docs/").join(address)).status_code == 200
    behind = server.get("/docs", headers={"x-forwarded-prefix": "/iso"}).text
    assert "'/iso/openapi.json'" in behind
    forged = server.get("/docs", headers={"x-forwarded-prefix": "//evil.example/'x"}).text
    assert "evil" not in forged
    assert server.get("/openapi.json").json()["servers"] == [{"url": "."}]


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text; version=1.0.0; Q=0.0, text/plain", False),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.8", False),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2", True),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
        ("application/openmetrics-text;q=nonsense", False),
    ],
)
def test_openmetrics_comes_where_it_is_preferred(
    server: RunningServer, accept: str, taken: bool
) -> None:
    assert takes_openmetrics(accept) == taken
    kind = server.get("/metrics", headers={"accept": accept}).headers["content-type"]
    assert kind.startswith("application/openmetrics-text") == taken
