"""Files of some bytes that ask for a second of decoding do not keep photographs from an answer."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import numpy as np
from image_bytes import encode
from running_server import StartServer
from tiny_model import write_tiny_model

from benchmarks.serving.images import costly_webp

BOMB = costly_webp()
PHOTO = encode("JPEG", np.full((750, 1000, 3), (0, 0, 255), dtype=np.uint8))
PHOTOS = 20


def test_photographs_are_answered_beside_bombs(start_server: StartServer, tmp_path: Path) -> None:
    assert len(BOMB) < 100
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    server = start_server(tmp_path, "--slots", "2")
    stop = threading.Event()
    refused = threading.Event()

    def attack() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not stop.is_set():
                if client.post("/v1/predict", content=BOMB).status_code == 429:
                    refused.set()
                    stop.wait(0.02)

    attacking = [threading.Thread(target=attack) for _ in range(6)]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.post("/v1/predict", content=PHOTO).status_code == 200
        for each in attacking:
            each.start()
        try:
            assert refused.wait(60)
            statuses = [
                client.post("/v1/predict", content=PHOTO).status_code for _ in range(PHOTOS)
            ]
        finally:
            stop.set()
            for each in attacking:
                each.join()
    assert statuses == [200] * PHOTOS
