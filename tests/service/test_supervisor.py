"""Several processes on one socket: their numbers, their deaths, their end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from image_bytes import colour
from running_server import ROOT, RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.repository.process_stat import stat_fields

RED = colour(255, 0, 0)
STARTED = re.compile(r"worker (\d+) started as process (\d+)")
CLIENTS = 4


def processes(server: RunningServer) -> list[int]:
    return [int(found[2]) for line in server.log if (found := STARTED.search(line))]


def images_counted(server: RunningServer) -> float:
    found = re.search(
        r'isoserve_images_total\{model="m",verdict="in_distribution",version="1"\} (\S+)',
        server.get("/metrics").text,
    )
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module", name="pair")
def _pair(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    return start_pair(start_server, tmp_path_factory.mktemp("pair"))


def start_pair(start_server: StartServer, root: Path) -> RunningServer:
    write_tiny_model(root / "m" / "1" / "model.onnx", TinyModel(work=3))
    server = start_server(root, "--workers", "2", "--slots", "1")
    server.wait_until(lambda: len(processes(server)) == 2)
    return server


class Load:
    """Clients in a closed loop, each request on a connection of its own; what became of them."""

    def __init__(self, server: RunningServer) -> None:
        self.answered: list[int] = []
        self.lost = 0
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self._server.url, timeout=30, limits=limits) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/v1/predict", content=RED)
                except httpx.TransportError:
                    self.lost += 1
                else:
                    self.answered.append(answer.status_code)


def test_a_killed_worker_returns_and_only_what_it_was_answering_is_lost(
    pair: RunningServer,
) -> None:
    first, second = processes(pair)[:2]
    with Load(pair) as load:
        pair.wait_until(lambda: len(load.answered) >= 40)
        before = images_counted(pair)
        os.kill(first, signal.SIGKILL)
        pair.wait_until(lambda: len(processes(pair)) == 3)
        at_return = len(load.answered)
        pair.wait_until(lambda: len(load.answered) >= at_return + 40)
    assert set(load.answered) == {200}
    assert load.lost <= CLIENTS
    assert before > 0
    assert images_counted(pair) >= len(load.answered)  # the dead one's counts are not forgotten
    assert Path(f"/proc/{second}").exists()


def test_the_numbers_of_all_workers_are_added_up(pair: RunningServer) -> None:
    before = images_counted(pair)
    for _ in range(20):
        assert pair.post("/v1/predict", content=RED).status_code == 200
    assert images_counted(pair) == before + 20
    text = pair.get("/metrics").text
    (info,) = re.findall(r"isoserve_model_info\{.*", text)
    assert info.endswith(" 1.0")
    assert "pid=" not in text


def test_a_version_that_left_all_workers_is_shown_as_serving_no_more(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    pair = start_server(tmp_path, "--workers", "2", "--slots", "1", "--watch-seconds", "0.1")

    def versions(gauge: str) -> list[str]:
        text = pair.get("/metrics").text
        return sorted(re.findall(rf'isoserve_model_{gauge}\{{.*version="(\d)"\}} (?!0\.0\n)', text))

    gauges = ("info", "alpha", "calibration_images")
    assert [versions(gauge) for gauge in gauges] == [["1"]] * 3
    write_tiny_model(tmp_path / "m" / "2" / "model.onnx", TinyModel(seed=1))
    pair.wait_until(lambda: versions("info") == ["2"])
    text = pair.get("/metrics").text
    for gauge in gauges:
        (line,) = re.findall(rf"isoserve_model_{gauge}\{{.*", text)
        assert 'version="2"' in line


def test_sigterm_ends_all_workers_with_exit_code_0(
    start_server: StartServer, tmp_path: Path
) -> None:
    pair = start_pair(start_server, tmp_path)
    workers = processes(pair)
    assert pair.stop() == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_workers_whose_supervisor_was_killed_stop_and_free_the_port(
    start_server: StartServer, tmp_path: Path
) -> None:
    pair = start_pair(start_server, tmp_path)
    where = urlsplit(pair.url)
    assert pair.post("/v1/predict", content=RED).status_code == 200
    os.kill(pair.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(runs, processes(pair))) or not is_free(where.hostname or "", where.port or 0):
        assert time.monotonic() < deadline, "".join(pair.log)
        time.sleep(0.05)
    assert "Traceback" not in "".join(pair.log)


def runs(process: int) -> bool:
    fields = stat_fields(process)
    return fields is not None and fields[0] != "Z"  # nobody may be there to bury an orphan


def is_free(host: str, port: int) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((host, port))
            other.listen()
        except OSError:
            return False
    return True


@pytest.mark.parametrize(
    ("number", "once", "pause"),
    [
        (signal.SIGINT, ["worker 0 started"], 0.3),  # amid its imports
        (signal.SIGTERM, ["is serving", "is serving"], 0.0),
        (signal.SIGINT, ["is serving", "is serving"], 0.5),
    ],
)
def test_a_signal_to_all_processes_ends_them_without_a_stack_trace(
    tmp_path: Path, number: int, once: list[str], pause: float
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    process = subprocess.Popen(
        [sys.executable, "-m", "isoserve", "serve", str(tmp_path), "--port=0", "--workers=2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        assert process.stderr
        for words in once:
            next(line for line in process.stderr if words in line)
        time.sleep(pause)
        os.killpg(process.pid, number)
        said = process.stderr.readlines()
        assert process.wait(timeout=60) == 0
    assert "Traceback" not in "".join(said)
