"""What is left of a request once it has been answered: nothing, though its connection stays open.

An idle client may keep a connection for a minute, and a busy one sends thousands of images a
second: neither the connection nor a ring of references may hold an image and the version that
judged it. The garbage collector is off here, since it would hide the rings from the test, and not
from the server's memory.
"""

from __future__ import annotations

import base64
import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from image_bytes import encode
from ports import free_port
from server_in_process import served
from tiny_model import write_tiny_model

from isoserve.service.app import Application
from isoserve.service.batching.admission import Admission
from isoserve.service.batching.job import Job
from isoserve.service.http.disconnect import WATCH_AFTER_SECONDS
from isoserve.service.inference.outputs import Pixels
from isoserve.service.inference_protocol.messages import MESSAGES, SERVICE
from isoserve.service.inference_protocol.tensors import LENGTH
from isoserve.service.observability.request_record import RequestRecord
from isoserve.service.settings import Settings

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
WHOLE = encode("JPEG", PIXELS)
TORN = encode("PNG", PIXELS)[:-200]
COMMENTS = 6 * (b"\xff\xfe" + (60_000).to_bytes(2, "big") + bytes(59_998))
LARGE = WHOLE[:2] + COMMENTS + WHOLE[2:]
"""For the threads of large images."""


def tensor(image: bytes) -> dict[str, Any]:
    data = {"data": [base64.b64encode(image).decode()], "parameters": {"content_type": "base64"}}
    return {"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", **data}]}


ONE = {"content": WHOLE}
FORM = {"files": {"file": WHOLE}}
BATCH = {"files": [("files", WHOLE), ("files", WHOLE)]}
PROTOCOL = {"json": tensor(WHOLE)}
PREDICT, PREDICT_BATCH, INFER = "/v1/predict", "/v1/predict/batch", "/v2/models/tiny/infer"
EVERY_WAY = ((PREDICT, ONE), (PREDICT, FORM), (PREDICT_BATCH, BATCH), (INFER, PROTOCOL))


@pytest.fixture(scope="module", name="inside")
def _inside(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Application, httpx.Client]]:
    root = tmp_path_factory.mktemp("forgetting")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    port = free_port()
    with served(Settings(repository=root, slots=1, grpc_port=port)) as (app, client):
        yield app, client


@pytest.fixture(name="client")
def _client(inside: tuple[Application, httpx.Client]) -> httpx.Client:
    return inside[1]


@pytest.fixture(name="app")
def _app(inside: tuple[Application, httpx.Client]) -> Application:
    return inside[0]


def held() -> int:
    """Jobs and records in memory, garbage included."""
    return sum(issubclass(type(each), (Job, RequestRecord)) for each in gc.get_objects())


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Of what is asked meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
        deadline = time.monotonic() + 10
        while held() and time.monotonic() < deadline:  # the answer leaves before its request ends
            time.sleep(0.02)
        assert held() == 0
    finally:
        gc.enable()


def ask(client: httpx.Client, status: int, path: str, request: dict[str, Any]) -> None:
    with nothing_is_left():
        for _ in range(3):
            assert client.post(path, **request).status_code == status


@pytest.mark.parametrize(
    ("status", "path", "request_"),
    [
        (200, PREDICT, ONE),
        (200, PREDICT, {**ONE, "headers": {"Connection": "close"}}),
        (400, PREDICT, {"content": TORN}),
        (415, PREDICT, {"content": b"no image"}),
        (200, PREDICT, {"content": LARGE}),
        (400, PREDICT, {"content": LARGE[:-100]}),
        (200, f"{PREDICT}?explain=true", FORM),
        (400, PREDICT, {"files": {"file": TORN}}),
        (404, f"{PREDICT}?model=none", {"content": LARGE}),
        (422, f"{PREDICT}?top_k=none", ONE),
        (200, PREDICT_BATCH, {"files": [("files", one) for one in (WHOLE, TORN, b"x")]}),
        (415, PREDICT_BATCH, ONE),
        (200, INFER, PROTOCOL),
        (400, INFER, {"json": tensor(TORN)}),
        (415, INFER, {"json": tensor(b"no image")}),
        (400, INFER, {"json": tensor(LARGE[:-100])}),
        (400, INFER, {"json": tensor(LARGE) | {"id": 7}}),
        (400, INFER, {"content": WHOLE}),
        (404, "/v2/models/tiny/versions/2/infer", PROTOCOL),
        (405, "/v2/models/tiny", PROTOCOL),
    ],
)
def test_an_answered_request_leaves_nothing_behind(
    client: httpx.Client, status: int, path: str, request_: dict[str, Any]
) -> None:
    ask(client, status, path, request_)


@pytest.mark.parametrize(("path", "request_"), EVERY_WAY)
def test_nor_does_one_that_waited_too_long(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str, request_: dict[str, Any]
) -> None:
    monkeypatch.setattr(Admission, "late_after", -1.0)
    ask(client, 429, path, request_)
    assert client.post(path, **request_).headers["retry-after"] == "1"


@pytest.mark.parametrize(("path", "request_"), EVERY_WAY)
@pytest.mark.parametrize("at_the_door", [True, False])
def test_nor_does_one_that_the_queue_does_not_take(
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    request_: dict[str, Any],
    at_the_door: bool,
) -> None:
    if not at_the_door:
        monkeypatch.setattr("isoserve.service.app._OF_QUEUE", {})
    monkeypatch.setattr(Admission, "limit_met", lambda *_: "images")
    ask(client, 429, path, request_)


@pytest.fixture(name="failing")
def _failing(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(slot: int, images: Pixels) -> None:  # noqa: ARG001
        raise RuntimeError

    monkeypatch.setattr(app.repository.resolve("tiny", 1).model, "run", fail)
    # pytest keeps what is logged, and with it the frames of the failure.
    monkeypatch.setattr(logging.getLogger("isoserve.batch"), "disabled", True)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("path", "request_"), EVERY_WAY)
def test_nor_does_one_that_the_network_fails_on(
    client: httpx.Client, path: str, request_: dict[str, Any]
) -> None:
    ask(client, 500, path, request_)


@pytest.mark.parametrize(("path", "request_"), EVERY_WAY)
def test_nor_does_one_whose_client_left(
    client: httpx.Client,
    app: Application,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    request_: dict[str, Any],
) -> None:
    model = app.repository.resolve("tiny", 1).model
    run = model.run

    def slow(slot: int, images: Pixels) -> Any:
        time.sleep(6 * WATCH_AFTER_SECONDS)
        return run(slot, images)

    monkeypatch.setattr(model, "run", slow)
    with nothing_is_left():
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                client.post(path, **request_, timeout=3 * WATCH_AFTER_SECONDS)


def code_of(port: int, image: bytes) -> Any:
    """What a call over gRPC ends with."""
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    request.inputs.add(name="images", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(LENGTH.pack(len(image)) + image)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        try:
            infer(request.SerializeToString(), timeout=30)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (WHOLE, grpc.StatusCode.OK),
        (TORN, grpc.StatusCode.INVALID_ARGUMENT),
        (b"no image", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_nor_does_a_call_over_grpc(app: Application, image: bytes, code: grpc.StatusCode) -> None:
    with nothing_is_left():
        for _ in range(3):
            assert code_of(app.settings.grpc_port, image) is code


@pytest.mark.usefixtures("failing")
def test_nor_does_a_call_over_grpc_that_the_network_fails_on(app: Application) -> None:
    with nothing_is_left():
        for _ in range(3):
            assert code_of(app.settings.grpc_port, WHOLE) is grpc.StatusCode.INTERNAL
