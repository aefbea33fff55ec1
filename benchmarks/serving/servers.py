"""The servers that are compared: how each is started, and where it takes an image."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from benchmarks.serving.load import Post
from isoserve.models.cpu_quota import usable_cores
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.repository.process_stat import TICKS_A_SECOND, stat_fields

START_SECONDS = 40
LOOK_SECONDS = 0.02

IDLE_LOOK, MOST_IDLE_WAIT = 0.2, 20.0
"""Seconds between two looks whether a server still works, and that are waited at most."""


def as_it_is(image: bytes) -> tuple[dict[str, str], bytes]:
    """The file as the body."""
    return {"Content-Type": "image/jpeg"}, image


def in_base64(image: bytes) -> tuple[dict[str, str], bytes]:
    """``{"images": [...]}``, for servers that take JSON only."""
    text = base64.b64encode(image).decode()
    return {"Content-Type": "application/json"}, json.dumps({"images": [text]}).encode()


def in_a_tensor(image: bytes) -> tuple[dict[str, str], bytes]:
    """The inference protocol's binary form: the file as a UINT8 tensor."""
    tensor = {"name": "IMAGE", "datatype": "UINT8", "shape": [1, len(image)]}
    tensor["parameters"] = {"binary_data_size": len(image)}
    wanted = {"binary_data_output": True}
    head = json.dumps({"inputs": [tensor], "parameters": wanted}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return {"Content-Type": "application/octet-stream", **headers}, head + image


@dataclass(frozen=True)
class Candidate:
    """A server to be measured.

    ``module``: what ``python -m`` runs; ``flags``: may hold {model}, {port} and {cores};
    ``needs``: the package without which it is left out; ``request``: headers and body for an image.
    """

    name: str
    module: str
    path: str
    flags: tuple[str, ...] = ()
    needs: str = "fastapi"
    request: Callable[[bytes], tuple[dict[str, str], bytes]] = as_it_is

    def post(self, *images: bytes) -> Post:
        """The images as requests of this server's own form, all under the first's headers."""
        formed = [self.request(image) for image in images]
        return Post(self.path, [body for _, body in formed], formed[0][0])

    @property
    def available(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.needs) is not None


ISOSERVE = Candidate(
    "isoserve", "isoserve", "/v1/predict", ("serve", "{model}", "--port", "{port}")
)
ISOSERVE_WORKERS = Candidate(
    "isoserve, a worker a core",
    "isoserve",
    "/v1/predict",
    (*ISOSERVE.flags, "--workers", "{cores}"),
)
ISOSERVE_AUTO = Candidate(
    "isoserve, auto",
    "isoserve",
    "/v1/predict",
    (*ISOSERVE.flags, "--engine", "auto"),
    needs="openvino",
)
PLAIN = "plain FastAPI"
RIVALS = (
    Candidate(PLAIN, "benchmarks.serving.rivals.fastapi_plain", "/predict"),
    Candidate(
        "Mosec",
        "benchmarks.serving.rivals.mosec_batched",
        "/inference",
        ("--port", "{port}", "--max-request-size", str(ImageLimits().max_bytes)),
        needs="mosec",
    ),
    Candidate(
        "LitServe",
        "benchmarks.serving.rivals.litserve_batched",
        "/predict",
        needs="litserve",
        request=in_base64,
    ),
    Candidate(
        "BentoML",
        "benchmarks.serving.rivals.bentoml_batched",
        "/predict",
        needs="bentoml",
        request=in_base64,
    ),
    Candidate(
        "Triton",
        "benchmarks.serving.rivals.triton_python",
        "/v2/models/verdict/infer",
        needs="pytriton",
        request=in_a_tensor,
    ),
)


@dataclass
class Running:
    """A server that answers."""

    candidate: Candidate
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    seconds_to_first_answer: float = 0.0

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, proportional, in MB."""
        return sum(_proportional_kb(pid) for pid in _family(self.process.pid)) / 1024

    def processor_seconds(self) -> float:
        """What the process, its children and those that have ended used of the cores, in 10 ms."""
        ticks = 0
        for pid in _family(self.process.pid):
            ticks += sum(map(int, (stat_fields(pid) or [])[11:15]))
        return ticks / TICKS_A_SECOND

    def wait_until_idle(self) -> None:
        """So that what it still decodes for clients that went is not the next one's burden."""
        for _ in range(round(MOST_IDLE_WAIT / IDLE_LOOK)):
            before = self.processor_seconds()
            time.sleep(IDLE_LOOK)
            if self.processor_seconds() - before < IDLE_LOOK / 4:
                return

    def descriptors(self) -> int:
        """Open descriptors of the process and its children."""
        return sum(
            len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in _family(self.process.pid)
        )


@contextmanager
def running(
    candidate: Candidate,
    model: Path,
    image: Path,
    *flags: str,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Running]:
    """Start the server and wait until it answers the image; end it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = [flag.format(model=model, port=port, cores=usable_cores()) for flag in candidate.flags]
    environment = {
        **os.environ,
        "MODEL": str(model),
        "PORT": str(port),
        "CORES": str(usable_cores()),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", candidate.module, *given, *flags],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        process_group=0,
    )
    try:
        _wait_until_it_answers(port, candidate.post(image.read_bytes()), process)
        yield Running(candidate, port, process, time.monotonic() - started)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):  # LitServe's workers outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_it_answers(port: int, post: Post, process: subprocess.Popen[bytes]) -> None:
    url, deadline = f"http://127.0.0.1:{port}{post.path}", time.monotonic() + START_SECONDS
    with httpx.Client() as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if (
                    client.post(url, content=post.bodies[0], headers=post.headers).status_code
                    == 200
                ):
                    return
            except httpx.TransportError:
                pass
            time.sleep(LOOK_SECONDS)
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


@contextmanager
def all_running(
    candidates: Iterable[Candidate], model: Path, image: Path
) -> Iterator[list[Running]]:
    """Those of the servers that start, in their order; the others are named on stdout."""
    with ExitStack() as stack:
        servers = []
        for candidate in candidates:
            try:
                servers.append(stack.enter_context(running(candidate, model, image)))
            except RuntimeError as error:
                print(f"left out: {error}", flush=True)
        yield servers
