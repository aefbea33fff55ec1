"""What is left of a request once it has been answered: nothing, though its connection stays open.

An idle client may keep a connection for a minute, and a busy one sends thousands of images a
second: neither the connection nor a ring of references may hold an image and the version that
judged it. The garbage collector is off here, since it would hide the rings from the test, and not
from the server's memory.
"""

from __future__ import annotations

import base64
import gc
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from image_bytes import encode
from tiny_model import write_tiny_model

from service.app import create_app
from service.connections import ConnectionLimits, guarded
from service.job import Job
from service.request_record import RequestRecord
from service.settings import Settings

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
WHOLE = encode("JPEG", PIXELS)
TORN = encode("PNG", PIXELS)[:-200]
COMMENTS = 6 * (b"\xff\xfe" + (60_000).to_bytes(2, "big") + bytes(59_998))
LARGE = WHOLE[:2] + COMMENTS + WHOLE[2:]
"""For the lane of large images."""


def tensor(image: bytes) -> dict[str, Any]:
    data = {"data": [base64.b64encode(image).decode()], "parameters": {"content_type": "base64"}}
    return {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", **data}]}


@pytest.fixture(scope="module", name="client")
def _client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One connection to a server in this process."""
    root = tmp_path_factory.mktemp("forgetting")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    app = create_app(Settings(repository=root, slots=1))
    http = guarded(ConnectionLimits(10, 16_384, 10, 75), app)
    server = uvicorn.Server(uvicorn.Config(app, http=http, loop="uvloop", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            while client.get("/healthz/ready").status_code != 200:
                time.sleep(0.02)
            yield client
        server.should_exit = True
        thread.join()


def held() -> int:
    """Jobs and records in memory, garbage included."""
    return sum(issubclass(type(each), (Job, RequestRecord)) for each in gc.get_objects())


@pytest.mark.parametrize(
    ("status", "path", "request_"),
    [
        (200, "/v1/predict", {"content": WHOLE}),
        (200, "/v1/predict", {"content": WHOLE, "headers": {"Connection": "close"}}),
        (400, "/v1/predict", {"content": TORN}),
        (415, "/v1/predict", {"content": b"no image"}),
        (200, "/v1/predict", {"content": LARGE}),
        (400, "/v1/predict", {"content": LARGE[:-100]}),
        (200, "/v1/predict?explain=true", {"files": {"file": WHOLE}}),
        (400, "/v1/predict", {"files": {"file": TORN}}),
        (404, "/v1/predict?model=none", {"content": LARGE}),
        (200, "/v1/predict/batch", {"files": [("files", one) for one in (WHOLE, TORN, b"x")]}),
        (200, "/v2/models/tiny/infer", {"json": tensor(WHOLE)}),
        (400, "/v2/models/tiny/infer", {"json": tensor(TORN)}),
    ],
)
def test_an_answered_request_leaves_nothing_behind(
    client: httpx.Client, status: int, path: str, request_: dict[str, Any]
) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert client.post(path, **request_).status_code == status
        deadline = time.monotonic() + 10
        while held() and time.monotonic() < deadline:  # the answer leaves before its request ends
            time.sleep(0.02)
        assert held() == 0
    finally:
        gc.enable()
