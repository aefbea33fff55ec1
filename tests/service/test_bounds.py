"""What one client may cost, over real sockets."""

from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from ports import free_port
from raw_connection import RED, connection, head, status, still_serves, until_closed
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.service.http.protocol import MOST_PIPELINED

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
