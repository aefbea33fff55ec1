"""The servers that are compared: how each is started, and where it takes an image."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.cores import usable_cores

START_SECONDS = 40


@dataclass(frozen=True)
class Candidate:
    """A server to be measured.

    ``module``: what ``python -m`` runs; ``flags``: may hold {model} and {port}; ``needs``: the
    package without which it is left out.
    """

    name: str
    module: str
    path: str
    flags: tuple[str, ...] = ()
    needs: str = "fastapi"

    @property
    def available(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.needs) is not None


ISOSERVE = Candidate(
    "isoserve", "isoserve", "/v1/predict", ("serve", "{model}", "--port", "{port}")
)
RIVALS = (
    Candidate("plain FastAPI", "benchmarks.serving.rivals.fastapi_plain", "/predict"),
    Candidate(
        "Mosec",
        "benchmarks.serving.rivals.mosec_batched",
        "/inference",
        ("--port", "{port}"),
        needs="mosec",
    ),
    Candidate(
        "LitServe", "benchmarks.serving.rivals.litserve_batched", "/predict", needs="litserve"
    ),
)


@dataclass
class Running:
    """A server that answers."""

    candidate: Candidate
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, proportional, in MB."""
        return sum(_proportional_kb(pid) for pid in _family(self.process.pid)) / 1024


@contextmanager
def running(candidate: Candidate, model: Path, image: Path, *flags: str) -> Iterator[Running]:
    """Start the server and wait until it answers the image; end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = [flag.format(model=model, port=port) for flag in candidate.flags]
    environment = {
        **os.environ,
        "MODEL": str(model),
        "PORT": str(port),
        "CORES": str(usable_cores()),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", candidate.module, *given, *flags],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}{candidate.path}", image, process)
        yield Running(candidate, port, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_answers(url: str, image: Path, process: subprocess.Popen[bytes]) -> None:
    body, deadline = image.read_bytes(), time.monotonic() + START_SECONDS
    headers = {"Content-Type": "image/jpeg"}
    with httpx.Client() as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if client.post(url, content=body, headers=headers).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} does not answer at {url}")


def _family(pid: int) -> list[int]:
    found = [pid]
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += _family(int(child))
    except OSError:
        return found
    return found


def _proportional_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
