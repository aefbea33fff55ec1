"""Two models in one server: the requests to one do not take the other's share."""

from __future__ import annotations

import threading

import httpx
import numpy as np
import pytest
from image_bytes import colour, encode
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

RED = colour(255, 0, 0)
LARGE = encode("PNG", np.full((1200, 1000, 3), 200, dtype=np.uint8))
FLOOD = 60
ASKED = 20


@pytest.fixture(scope="module", name="two")
def _two(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    root = tmp_path_factory.mktemp("two")
    for name in "ab":
        write_tiny_model(root / name / "1" / "model.onnx", TinyModel(work=30, name=name))
    return start_server(root, "--slots", "1", "--queue-seconds", "0.2")


@pytest.mark.parametrize("image", [RED, LARGE], ids=["small", "large"])
def test_a_model_beside_a_flooded_one_keeps_its_answers(two: RunningServer, image: bytes) -> None:
    stop = threading.Event()
    refused = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=two.url, timeout=30) as client:
            while not stop.is_set():
                if client.post("/v1/predict?model=a", content=image).status_code == 429:
                    refused.set()
                    stop.wait(0.05)

    flooding = [threading.Thread(target=flood) for _ in range(FLOOD)]
    for each in flooding:
        each.start()
    try:
        assert refused.wait(30)
        with httpx.Client(base_url=two.url, timeout=30) as client:
            ask = [client.post("/v1/predict?model=b", content=image) for _ in range(ASKED)]
    finally:
        stop.set()
        for each in flooding:
            each.join()
    statuses = [answer.status_code for answer in ask]
    assert statuses.count(200) >= 0.8 * ASKED, ask[-1].text
