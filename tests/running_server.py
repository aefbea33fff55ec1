"""The real server, in a process of its own, over a repository of tiny models; a plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tiny_model import TinyModel, write_tiny_model

ROOT = Path(__file__).parents[1]
STARTUP_SECONDS = 60
LISTENING = re.compile(r"listening on (http://\S+)")


@dataclass
class RunningServer:
    """An ``isoserve serve`` process that listens."""

    url: str
    process: subprocess.Popen[str]
    log: list[str]

    def request(self, method: str, path: str, **options: object) -> httpx.Response:
        """One request on a connection of its own."""
        return httpx.request(method, self.url + path, timeout=30, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: object) -> httpx.Response:
        return self.request("POST", path, **options)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Poll until the condition holds; fails with the server's log."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "".join(self.log)
            assert time.monotonic() < deadline, "".join(self.log)
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; the exit code. One that does not end is killed, and that is an error."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def close(self) -> None:
        """Stop it, and close its log."""
        try:
            self.stop()
        finally:
            assert self.process.stderr is not None
            self.process.stderr.close()


StartServer = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def start_server() -> Iterator[StartServer]:
    """Start ``isoserve serve PATH FLAGS...`` on a free port; stopped when the file's tests end.

    ``environment``: variables besides those of this process.
    """
    with _starting() as start:
        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server over one tiny model, ``tiny`` version 1; shared, so tests must not disturb it."""
    root = tmp_path_factory.mktemp("repository")
    write_tiny_model(root / "tiny" / "1" / "model.onnx", TinyModel())
    with _starting() as start:
        yield start(root)


@contextmanager
def _starting() -> Iterator[StartServer]:
    # Ends every server, also where one of them fails to end.
    started = ExitStack()

    def start(
        path: Path | str,
        *flags: str,
        ready: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> RunningServer:
        of_server = {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1", **(environment or {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "isoserve", "serve", str(path), "--port", "0", *flags],
            cwd=ROOT,
            env={**os.environ, **of_server},
            stderr=subprocess.PIPE,
            text=True,
        )
        server = RunningServer("", process, [])
        started.callback(server.close)
        started.callback(process.terminate)
        assert process.stderr is not None
        for line in process.stderr:
            server.log.append(line)
            if found := LISTENING.search(line):
                server.url = found[1]
                break
        threading.Thread(target=server.log.extend, args=(process.stderr,), daemon=True).start()
        assert server.url, "".join(server.log)
        if ready:
            server.wait_until(lambda: _is_ready(server), STARTUP_SECONDS)
        return server

    with started:
        yield start


def _is_ready(server: RunningServer) -> bool:
    try:
        return server.get("/healthz/ready").status_code == 200
    except httpx.TransportError:
        return False
