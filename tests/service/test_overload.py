"""More than a server can compute, and its end while it computes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import httpx
import pytest
from image_bytes import encode
from raw_connection import (
    RED,
    answers,
    chunked,
    connection,
    head,
    plain,
    status,
    still_serves,
    until_closed,
)
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.http.connection_end import HELD_BACK_SECONDS


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


@pytest.mark.parametrize("make", [plain, chunked])
def test_a_client_that_asks_again_at_once_when_refused_is_read_later(
    start_server: StartServer, tmp_path: Path, make: Callable[[bytes], bytes]
) -> None:
    write_tiny_model(tmp_path / "slow" / "1" / "model.onnx", TinyModel(work=300, name="slow"))
    flags = ("--slots", "1", "--max-batch", "1", "--queue-images", "8")
    server = start_server(tmp_path, *flags, "--max-batch-images", "8", "--queue-seconds", "60")
    assert still_serves(server)
    taken: list[tuple[int, float]] = []
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connection(server)).sendall(plain(RED))
        server.wait_until(lambda: queue_depth(server) > 4)
        eager = stack.enter_context(connection(server))
        for _ in range(4):
            started = monotonic()
            eager.sendall(make(RED))
            ((code, _, _),) = answers(eager, 1)
            taken.append((code, monotonic() - started))
    assert [code for code, _ in taken] == [429] * 4
    assert min(seconds for _, seconds in taken[2:]) > 0.9 * HELD_BACK_SECONDS


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
