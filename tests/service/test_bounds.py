"""What one client may cost, over real sockets."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from image_bytes import colour, encode
from ports import free_port
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.http.protocol import MOST_PIPELINED

RED = colour(255, 0, 0)
LIVE = b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n"
MAX_HEADER_BYTES = 2_000
MAX_BODY_BYTES = 500_000


@pytest.fixture(scope="module", name="strict")
def _strict(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server that is quick to lose patience."""
    root = tmp_path_factory.mktemp("strict")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    return start_server(
        root,
        *("--header-seconds", "0.7", "--idle-seconds", "0.7", "--body-seconds", "0.7"),
        *("--max-header-bytes", str(MAX_HEADER_BYTES), "--max-body-bytes", str(MAX_BODY_BYTES)),
        *("--max-batch-body-bytes", "600000", "--held-body-bytes", "600000"),
    )


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


def test_a_silent_connection_is_closed(strict: RunningServer) -> None:
    with connection(strict) as opened:
        assert until_closed(opened) == b""


def test_an_idle_connection_is_closed_after_its_answer(strict: RunningServer) -> None:
    with connection(strict) as opened:
        opened.sendall(head(len(RED)) + RED)
        assert status(until_closed(opened)) == 200


@pytest.mark.parametrize("before", [b"", head(len(RED)) + RED])
def test_half_a_head_is_answered_408_and_closed(strict: RunningServer, before: bytes) -> None:
    with connection(strict) as opened:
        opened.sendall(before)
        if before:
            assert status(opened.recv(65536)) == 200
        opened.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-Drip: ")
        answer = until_closed(opened)
        assert status(answer) == 408
        assert b'"slow_head"' in answer
        assert b"connection: close" in answer


def test_a_dripping_head_gains_no_time_by_dripping(strict: RunningServer) -> None:
    with connection(strict) as opened:
        opened.settimeout(0.1)
        for byte in b"GET /v1/models HTTP/1.1\r\nX-Slow: " + b"a" * 500:
            try:
                opened.sendall(bytes([byte]))
                answer = opened.recv(65536)
            except TimeoutError:
                continue
            break
        assert status(answer) == 408


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_a_large_head_is_answered_431_and_closed(strict: RunningServer, in_one_piece: bool) -> None:
    large = head(3, "X-Large: " + "a" * MAX_HEADER_BYTES)
    with connection(strict) as opened:
        opened.sendall(large + b"abc" if in_one_piece else large[:-4])
        answer = until_closed(opened)
    assert status(answer) == 431
    assert b'"head_too_large"' in answer
    assert still_serves(strict)


def test_what_is_no_http_is_answered_with_a_problem_and_counted(strict: RunningServer) -> None:
    with connection(strict) as opened:
        opened.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
        answer = until_closed(opened)
    assert status(answer) == 400
    assert b"application/problem+json" in answer
    counted = 'isoserve_refused_connections_total{reason="malformed_request"}'
    assert counted in strict.get("/metrics").text


def test_a_dripping_body_is_cut_by_its_total_time(strict: RunningServer) -> None:
    with connection(strict) as opened:
        opened.sendall(head(100_000))
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    opened.sendall(b"a")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            # A drop that falls between the server's last read and its close resets the connection.
            answer = until_closed(opened, may_reset=True)
        finally:
            stop.set()
            dripping.join()
    assert status(answer) == 408
    assert b'"slow_body"' in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_and_its_connection_closed(
    strict: RunningServer, chunked: bool
) -> None:
    with connection(strict) as opened:
        if chunked:
            opened.sendall(head(None, "Transfer-Encoding: chunked"))
            piece = b"%x\r\n%s\r\n" % (50_000, bytes(50_000))
            for _ in range(12):
                opened.sendall(piece)
        else:
            opened.sendall(head(MAX_BODY_BYTES + 1))
        answer = until_closed(opened)
    assert status(answer) == 413
    assert b'"body_too_large"' in answer
    assert b"connection: close" in answer


def test_a_client_that_sends_all_before_it_reads_still_gets_its_413(
    strict: RunningServer,
) -> None:
    refused = strict.post("/v1/predict", content=bytes(4 * MAX_BODY_BYTES))
    assert refused.status_code == 413


def test_bodies_together_are_bounded_and_given_back(strict: RunningServer) -> None:
    with connection(strict) as holding:
        holding.sendall(head(MAX_BODY_BYTES) + bytes(400_000))

        def refused() -> bool:
            answer = strict.post("/v1/predict", content=bytes(300_000))
            return answer.status_code == 429 and bool(answer.headers["retry-after"])

        strict.wait_until(refused)
    for _ in range(3):
        assert strict.post("/v1/predict", content=bytes(400_000)).status_code == 415
    assert 'isoserve_shed_total{limit="bytes"} 1.0' in strict.get("/metrics").text


def test_of_too_many_idle_connections_the_idlest_is_closed(roomy: RunningServer) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(connection(roomy)) for _ in range(20)]
        for each in opened:
            each.sendall(head(len(RED)) + RED)
            assert status(each.recv(65536)) == 200
        more = [stack.enter_context(connection(roomy)) for _ in range(30)]
        assert [live(each) for each in more] == [200] * len(more)
        assert still_serves(roomy)
        assert all(until_closed(each, may_reset=True) == b"" for each in opened[:10])
        assert live(more[-1]) == 200
    assert 'isoserve_refused_connections_total{reason="idle"}' in roomy.get("/metrics").text


def test_where_no_connection_is_idle_probes_are_answered_and_others_turned_away(
    roomy: RunningServer,
) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(connection(roomy)) for _ in range(40)]
        for each in busy:
            each.sendall(head(1_000) + b"some")
        roomy.wait_until(lambda: b"too_many_connections" in asked(roomy, head(len(RED)) + RED))
        for _ in range(70):
            assert status(asked(roomy, LIVE)) == 200
        for each in busy:
            each.sendall(bytes(996))
            assert status(each.recv(65536)) == 415
    roomy.wait_until(lambda: still_serves(roomy))


def live(opened: socket.socket) -> int:
    """The status of a probe on this connection, its answer read whole."""
    opened.sendall(LIVE)
    answer = b""
    while not answer.endswith(b"}"):
        answer += opened.recv(65536)
    return status(answer)


def asked(server: RunningServer, request: bytes) -> bytes:
    """What a connection of its own gets for a request."""
    with connection(server) as opened:
        opened.sendall(request)
        return opened.recv(65536)


@pytest.fixture(scope="module", name="roomy")
def _roomy(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server that is patient, and takes 40 connections."""
    root = tmp_path_factory.mktemp("roomy")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    return start_server(root, "--max-connections", "40")


def test_http_has_descriptors_left_beside_idle_connections_to_grpc(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    port = free_port()
    server = start_server(
        tmp_path, "--grpc-port", str(port), "--header-seconds", "3", "--max-connections", "700"
    )
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (1024, 1024))
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(1_100)
        ]
        assert server.get("/healthz/live").status_code == 200
        assert still_serves(server)
        # Those that say nothing are closed, and calls are answered again.
        assert until_closed(idle[0], may_reset=True) is not None
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=30, wait_for_ready=True) == b"\x08\x01"


def test_a_document_asked_for_many_times_holds_nobody_up(strict: RunningServer) -> None:
    assert "/v1/predict" in strict.get("/openapi.json").json()["paths"]
    with connection(strict) as opened:
        opened.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        started = time.monotonic()
        assert strict.get("/healthz/live").status_code == 200
        assert time.monotonic() - started < 5
        answers = until_closed(opened, may_reset=True)
    assert 0 < answers.count(b"HTTP/1.1 200") <= 1 + MOST_PIPELINED


@pytest.fixture(scope="module", name="slow")
def _slow(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server whose network takes some 0.1 s an image, with one slot, and a long queue."""
    root = tmp_path_factory.mktemp("slow")
    return _start_slow(start_server, root, "--queue-seconds", "30")


def _start_slow(start_server: StartServer, root: Path, *flags: str) -> RunningServer:
    write_tiny_model(root / "slow" / "1" / "model.onnx", TinyModel(work=30, name="slow"))
    return start_server(root, "--slots", "1", "--max-batch", "1", *flags)


def inferences(server: RunningServer) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith("isoserve_inference_duration_seconds_count"):
            return float(line.split()[-1])
    raise AssertionError("no such metric")


def test_a_client_that_left_is_not_computed_for(slow: RunningServer) -> None:
    before = inferences(slow)
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(connection(slow)).sendall(head(len(RED)) + RED)
        slow.wait_until(lambda: queue_depth(slow) > 20)
    slow.wait_until(lambda: queue_depth(slow) == 0)
    assert still_serves(slow)
    assert inferences(slow) - before < 25


def queue_depth(server: RunningServer) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith("isoserve_queue_depth "):
            return float(line.split()[-1])
    raise AssertionError("no such metric")


def test_beyond_the_waiting_time_requests_get_429_at_once_and_the_server_recovers(
    start_server: StartServer, tmp_path: Path
) -> None:
    impatient = _start_slow(start_server, tmp_path, "--queue-seconds", "0.1")
    assert still_serves(impatient)
    with httpx.Client(base_url=impatient.url, timeout=30) as client, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/predict", content=RED), range(72)))
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["reason"] == "queue_full"
    assert still_serves(impatient)


def test_under_overload_a_request_without_a_token_gets_401_and_one_with_it_keeps_its_id(
    start_server: StartServer, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-twenty-two!")
    allowed = {"Authorization": "Bearer a-token-of-twenty-two!"}
    flags = ("--queue-seconds", "0.1", "--token-file", str(tokens), "--access-log")
    guarded = _start_slow(start_server, tmp_path / "models", *flags)

    def ask(number: int) -> httpx.Response:
        headers = {"X-Request-ID": f"number-{number}", **(allowed if number % 3 else {})}
        return client.post("/v1/predict", content=RED, headers=headers)

    assert guarded.post("/v1/predict", content=RED, headers=allowed).status_code == 200
    with httpx.Client(base_url=guarded.url, timeout=30) as client, ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(96)))
    assert {answer.status_code for answer in answers[::3]} == {401}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answers} == {200, 401, 429}
    for number, answer in enumerate(answers):
        assert answer.headers["x-request-id"] == f"number-{number}"
    guarded.wait_until(lambda: sum("(request number-" in line for line in guarded.log) == 96)
    lines = [line for line in guarded.log if " 429 POST /v1/predict " in line]
    assert len(lines) == len(refused)
    assert all(" queue_full " in line for line in lines)
    text = guarded.get("/metrics").text
    of_refused = 'isoserve_request_duration_seconds_{}{{route="/v1/predict",status="429"}} '
    numbers = {
        part: float(text.split(of_refused.format(part))[1].split("\n")[0])
        for part in ("count", "sum")
    }
    assert numbers["count"] == len(refused)
    assert numbers["sum"] > 0


def test_a_large_photograph_is_served(slow: RunningServer) -> None:
    import numpy as np

    photo = encode("JPEG", np.full((1_500, 2_000, 3), (0, 0, 255), dtype=np.uint8))
    answer = slow.post("/v1/predict", content=photo)
    assert answer.status_code == 200
    assert answer.json()["prediction"]["label"] == "blue"


def test_sigterm_under_load_answers_what_was_accepted_and_exits_0(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = _start_slow(start_server, tmp_path, "--queue-seconds", "30")
    with ExitStack() as stack:
        waiting = [stack.enter_context(connection(server)) for _ in range(12)]
        for one in waiting:
            one.sendall(head(len(RED)) + RED)
        server.wait_until(lambda: queue_depth(server) >= 8)
        os.kill(server.process.pid, signal.SIGTERM)
        answers = [until_closed(one) for one in waiting]
    assert [status(answer) for answer in answers] == [200] * len(waiting)
    assert b"connection: close" in answers[-1]
    with pytest.raises(httpx.ConnectError):
        server.get("/healthz/live")
    assert server.stop() == 0


def test_the_grace_after_sigterm_is_bounded(start_server: StartServer, tmp_path: Path) -> None:
    server = _start_slow(start_server, tmp_path, "--grace-seconds", "1", "--body-seconds", "300")
    with connection(server) as never_ending:
        never_ending.sendall(head(1_000) + b"some")
        server.wait_until(lambda: server.get("/healthz/live").status_code == 200)
        assert server.stop() == 0
