"""The fast path and the ASGI path: which requests take which, and that both answer the same."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.app import create_app
from isoserve.service.http.request_head import RequestHead
from isoserve.service.settings import Settings

RED = colour(255, 0, 0)
LENGTH = (b"content-length", b"100")


class Nowhere:
    """A connection that is never answered."""

    def write_fast_path(self, *answer: object) -> None:  # noqa: ARG002
        raise AssertionError


@pytest.mark.parametrize(
    ("method", "target", "headers", "short"),
    [
        (b"POST", b"/v1/predict", [LENGTH], True),
        (b"POST", b"/v1/predict?top_k=2", [LENGTH, (b"content-type", b"image/png")], True),
        (b"PUT", b"/v1/predict", [LENGTH], False),
        (b"POST", b"/v1/predict/batch", [LENGTH], False),
        (b"POST", b"/v1/predict#x", [LENGTH], False),
        (b"POST", b"/v1/predict?a#x", [LENGTH], False),
        (b"POST", b"/v1/%70redict", [LENGTH], False),
        (b"POST", b"/v1/predict", [], False),
        (b"POST", b"/v1/predict", [(b"content-length", b"65537")], False),
        (b"POST", b"/v1/predict", [(b"transfer-encoding", b"chunked")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"expect", b"100-continue")], False),
        (b"POST", b"/v1/predict", [LENGTH, (b"upgrade", b"h2c")], False),
        (
            *(b"POST", b"/v1/predict"),
            *([LENGTH, (b"content-type", b"Multipart/form-data; boundary=x")], False),
        ),
    ],
)
def test_only_a_plain_small_image_takes_the_fast_path(
    tmp_path: Path, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], short: bool
) -> None:
    app = create_app(Settings(repository=tmp_path))
    found = app.fast_path(RequestHead(method, target, headers), Nowhere())
    assert (found is not None) == short


TOKEN = "a-token-of-sixteen-letters"


@pytest.mark.parametrize(
    ("lines", "is_fast", "caller"),
    [
        ([(b"authorization", f"Bearer {TOKEN}".encode())], True, ""),
        ([(b"authorization", b"Bearer the-camera-at-the-door")], True, "camera"),
        ([(b"authorization", b"Bearer one-that-may-review")], False, ""),
        ([(b"authorization", b"Bearer no-token-of-this-server")], False, ""),
        ([], False, ""),
    ],
)
def test_with_tokens_those_that_may_predict_take_the_fast_path(
    tmp_path: Path, lines: list[tuple[bytes, bytes]], is_fast: bool, caller: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(
        f"{TOKEN}\ncamera predict the-camera-at-the-door\nlabels review one-that-may-review\n"
    )
    app = create_app(Settings(repository=tmp_path, token_file=tokens))
    found = app.fast_path(RequestHead(b"POST", b"/v1/predict", [LENGTH, *lines]), Nowhere())
    assert (found is not None) == is_fast
    assert found is None or found.record.caller == caller


@pytest.mark.parametrize(("host", "is_fast"), [(b"known.example", True), (b"other.example", False)])
def test_with_named_hosts_requests_to_these_take_the_fast_path(
    tmp_path: Path, host: bytes, is_fast: bool
) -> None:
    app = create_app(Settings(repository=tmp_path, allowed_hosts="known.example"))
    head = RequestHead(b"POST", b"/v1/predict", [LENGTH, (b"host", host)])
    assert (app.fast_path(head, Nowhere()) is not None) == is_fast


@contextmanager
def connection(server: RunningServer) -> Iterator[socket.socket]:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as opened:  # type: ignore[arg-type]
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened


def plain(body: bytes, query: str = "", *lines: str) -> bytes:
    """A request that takes the fast path."""
    named = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *lines))
    return f"POST /v1/predict{query} HTTP/1.1\r\nHost: x\r\n{named}\r\n".encode() + body


def chunked(body: bytes, query: str = "", *lines: str) -> bytes:
    """The same request, for the ASGI path."""
    named = "".join(f"{line}\r\n" for line in ("Transfer-Encoding: chunked", *lines))
    head = f"POST /v1/predict{query} HTTP/1.1\r\nHost: x\r\n{named}\r\n".encode()
    pieces = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return head + pieces + b"0\r\n\r\n"


def answers(opened: socket.socket, n: int) -> list[tuple[int, dict[str, str], bytes]]:
    """The next answers on a connection: status, headers, body."""
    received, found = b"", []
    while len(found) < n:
        head, separator, rest = received.partition(b"\r\n\r\n")
        size = re.search(rb"content-length: (\d+)", head)
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


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (RED, "", 200),
        (RED, "?top_k=3&alpha=0.9", 200),
        (RED, "?explain=true", 200),
        (RED, "?model=tiny&version=1", 200),
        (RED, "?model=other", 404),
        (RED, "?version=9", 404),
        (RED, "?alpha=2", 422),
        (RED, "?wrong=1", 422),
        (RED[:-9], "", 400),
        (b"", "", 400),
        (b"no image", "", 415),
    ],
)
def test_both_ways_give_the_same_answer(
    server: RunningServer, body: bytes, query: str, status: int
) -> None:
    named = "X-Request-ID: one-of-two"
    with connection(server) as opened:
        opened.sendall(plain(body, query, named) + chunked(body, query, named))
        (short, long) = answers(opened, 2)
    assert short[0] == long[0] == status
    assert json.loads(short[2]) == json.loads(long[2])
    assert short[1].keys() == long[1].keys()
    assert short[1]["x-request-id"] == long[1]["x-request-id"] == "one-of-two"
    assert short[1]["content-type"] == long[1]["content-type"]


def test_pipelined_requests_of_both_ways_are_answered_in_order(server: RunningServer) -> None:
    wanted = [(plain, "a"), (plain, "b"), (chunked, "c"), (plain, "d"), (chunked, "e")]
    sent = b"".join(make(RED, "", f"X-Request-ID: {name}") for make, name in wanted)
    with connection(server) as opened:
        opened.sendall(sent)
        came = answers(opened, len(wanted))
    assert [headers["x-request-id"] for _, headers, _ in came] == [name for _, name in wanted]
    assert [json.loads(body)["id"] for _, _, body in came] == [name for _, name in wanted]


@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_a_body_may_come_in_pieces_and_late(server: RunningServer, pause: float) -> None:
    sent = plain(RED)
    with connection(server) as opened:
        for piece in (sent[:10], sent[10:-40], sent[-40:-20]):
            opened.sendall(piece)
            time.sleep(0.02)
        time.sleep(pause)
        opened.sendall(sent[-20:] + plain(RED))
        assert [status for status, _, _ in answers(opened, 2)] == [200, 200]


def test_a_small_body_that_stays_away_is_cut_off_all_the_same(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    strict = start_server(tmp_path, "--body-seconds", "0.5")
    with connection(strict) as opened:
        opened.sendall(plain(RED)[:-1])
        ((status, headers, body),) = answers(opened, 1)
    assert (status, headers["connection"]) == (408, "close")
    assert json.loads(body)["reason"] == "slow_body"


@pytest.mark.parametrize("make", [plain, chunked])
def test_a_connection_is_closed_where_the_client_asks(server: RunningServer, make) -> None:  # type: ignore[no-untyped-def]
    with connection(server) as opened:
        opened.sendall(make(RED, "", "Connection: close"))
        ((status, headers, _),) = answers(opened, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert opened.recv(1) == b""


def answered(server: RunningServer, status: int) -> float:
    name = f'isoserve_request_duration_seconds_count{{route="/v1/predict",status="{status}"}}'
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(name):
            return float(line.split()[-1])
    return 0.0


def test_a_client_that_left_is_counted_as_gone_once(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "slow" / "1" / "model.onnx", TinyModel(work=200, name="slow"))
    slow = start_server(tmp_path, "--slots", "1", "--max-batch", "1", "--queue-seconds", "30")
    with connection(slow) as served:
        served.sendall(plain(RED))
        for _ in range(3):
            with connection(slow) as leaving:
                leaving.sendall(plain(RED))
                time.sleep(0.01)
        with connection(slow) as leaving:
            leaving.sendall(plain(RED)[:-1])
        assert answers(served, 1)[0][0] == 200
    slow.wait_until(lambda: answered(slow, 499) == 4)
    slow.wait_until(lambda: "isoserve_queue_depth 0.0" in slow.get("/metrics").text)
    assert (answered(slow, 200), answered(slow, 499)) == (1, 4)


def test_a_client_that_takes_no_answers_is_not_read_from_for_ever(server: RunningServer) -> None:
    request = plain(b"no image")
    with connection(server) as deaf:
        deaf.settimeout(3)
        sent, most = 0, 60_000_000
        try:
            while sent < most:
                sent += deaf.send(request * 100)
        except TimeoutError:
            pass
    assert sent < most
