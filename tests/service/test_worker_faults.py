"""Workers that find no space, that stand still, and that follow another server."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from image_bytes import colour
from prometheus_client.mmap_dict import MmapedDict
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.service import supervisor
from isoserve.service.http.acceptor import ConnectionTable
from isoserve.service.observability.metric_files import FIRST_BYTES, MetricFile

RED = colour(255, 0, 0)
STARTED = re.compile(r"worker (\d+) started as process (\d+)")


def processes(server: RunningServer) -> list[int]:
    return [int(found[2]) for line in server.log if (found := STARTED.search(line))]


def start_pair(start_server: StartServer, root: Path, metrics: Path, *flags: str) -> RunningServer:
    write_tiny_model(root / "m" / "1" / "model.onnx")
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    given = ("--workers", "2", "--slots", "1", *flags)
    server = start_server(root, *given, environment=environment)
    server.wait_until(lambda: len(processes(server)) == 2)
    server.wait_until(lambda: sum("m version 1 is serving" in line for line in server.log) == 2)
    return server


def counted(server: RunningServer) -> float:
    found = re.search(
        r'isoserve_images_total\{.*"in_distribution".*\} (\S+)', server.get("/metrics").text
    )
    return float(found[1]) if found else 0.0


def drift_images(server: RunningServer) -> int:
    images: int = server.get("/v1/models/m/drift").json()["images"]
    return images


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """What this process and those that it starts write may not become larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_worker_that_returns_goes_on_in_its_slots_files(
    start_server: StartServer, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    server = start_pair(start_server, tmp_path / "repository", metrics)
    for _ in range(10):
        assert server.post("/v1/predict", content=RED).status_code == 200
    before = sorted(path.name for path in metrics.iterdir())
    for _ in range(2):
        known = len(processes(server))
        os.kill(processes(server)[-1], signal.SIGKILL)
        server.wait_until(lambda known=known: len(processes(server)) == known + 1)
        server.wait_until(lambda: len(set(metrics.iterdir())) >= len(before))
    server.wait_until(lambda: counted(server) == 10)
    assert sorted(path.name for path in metrics.iterdir()) == before
    assert drift_images(server) == 10


def test_what_a_former_server_counted_is_not_counted_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    first = start_pair(start_server, tmp_path / "repository", metrics)
    for _ in range(5):
        first.post("/v1/predict", content=RED)
    assert drift_images(first) == 5
    first.process.kill()
    first.process.wait()
    second = start_pair(start_server, tmp_path / "repository", metrics)
    second.post("/v1/predict", content=RED)
    assert (drift_images(second), counted(second)) == (1, 1)


def test_without_space_for_metrics_it_serves_on_and_says_why(
    start_server: StartServer, tmp_path: Path
) -> None:
    with largest_file(FIRST_BYTES // 2):
        server = start_pair(start_server, tmp_path / "repository", tmp_path / "metrics")
    for _ in range(20):
        assert server.post("/v1/predict", content=RED).status_code == 200
    assert server.get("/metrics").status_code == 200
    assert server.get("/v1/models/m/drift").status_code == 200
    assert any("not all metrics are kept" in line for line in server.log)
    assert len(processes(server)) == 2


def test_a_value_without_room_is_kept_and_shown_once_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoserve.service.observability.metric_files.RETRY_SECONDS", 0.0)
    path = tmp_path / "counter_0.db"
    with largest_file(FIRST_BYTES):
        file = MetricFile(str(path))
        for number in range(2000):
            file.write_value(f"key {number} {'x' * 40}", float(number), 0.0)
        assert path.stat().st_size == FIRST_BYTES
        assert file.read_value(f"key 1999 {'x' * 40}") == (1999.0, 0.0)
    for number in range(2000):
        file.write_value(f"key {number} {'x' * 40}", number + 0.5, 0.0)
    shown = {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))}
    assert shown == {f"key {number} {'x' * 40}": number + 0.5 for number in range(2000)}
    file.close()


def test_a_worker_that_stands_still_is_replaced(start_server: StartServer, tmp_path: Path) -> None:
    server = start_pair(start_server, tmp_path / "repository", tmp_path / "metrics")
    stopped = processes(server)[0]
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    server.wait_until(lambda: len(processes(server)) == 3, 60)
    assert time.monotonic() - began < 40
    assert any(f"process {stopped}, has not moved" in line for line in server.log)
    server.wait_until(lambda: answers(server), 60)


def answers(server: RunningServer) -> bool:
    """Whether ten connections are all answered soon."""
    try:
        found = [
            httpx.post(server.url + "/v1/predict", content=RED, timeout=5).status_code
            for _ in range(10)
        ]
    except httpx.TransportError:
        return False
    return found == [200] * 10


def test_looks_are_counted_and_not_the_time_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: clock[0])
    table = ConnectionTable(supervisor.multiprocessing.get_context("spawn"), 1)
    worker = supervisor._Worker(0)
    for _ in range(30):  # it does not serve yet
        clock[0] += 1
        assert not worker.is_stuck(table)
    table.beat(0)
    assert not worker.is_stuck(table)
    clock[0] += 3600  # all of the terminal's processes were stopped for an hour
    assert not worker.is_stuck(table)
    looks = 0
    while not worker.is_stuck(table):
        clock[0] += 1
        looks += 1
    assert looks == supervisor.STUCK_SECONDS - 1
    table.beat(0)
    assert not worker.is_stuck(table)
