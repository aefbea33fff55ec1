"""PostgreSQL dies while images come in: they are judged, the loss is counted, writing goes on."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from image_bytes import encode
from postgresql import PostgreSQL
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

TOKEN = "review-token-0123456789"
MODEL = TinyModel()
WAITING = 512
"""What the queue holds, by service/review/keeper.py."""


def outcomes(server: RunningServer) -> dict[str, int]:
    """Images by what became of them."""
    text = server.get("/metrics").text
    found = re.findall(
        r'^isoserve_review_images_total\{outcome="(\w+)"\} (\S+)', text, re.MULTILINE
    )
    return {outcome: int(float(number)) for outcome, number in found}


def send_rejected(server: RunningServer, images: int, seed: int) -> None:
    """Different gray images, which the tiny model rejects; each must be answered with 200."""
    rng = np.random.default_rng(seed)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        for _ in range(images // 50):
            pixels = np.clip(128 + rng.normal(0, 3, (50, 8, 8, 3)), 0, 255).astype(np.uint8)
            files = [("files", ("image.png", encode("PNG", each))) for each in pixels]
            answer = client.post("/v1/predict/batch", files=files)
            assert answer.status_code == 200, answer.text
            assert all(each["ood"]["is_ood"] for each in answer.json()["results"])


@pytest.mark.slow
def test_a_killed_database_costs_no_answer_and_heals(
    postgresql: PostgreSQL, start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "models" / "tiny" / "1" / "model.onnx", MODEL)
    (tmp_path / "tokens").write_text(TOKEN + "\n")
    flags = ["--review-database", postgresql.new_database(), "--review-sample", "0"]
    flags += ["--review-token-file", str(tmp_path / "tokens")]
    server = start_server(tmp_path / "models", *flags)
    headers = {"X-Review-Token": TOKEN}

    send_rejected(server, 100, seed=0)
    server.wait_until(lambda: outcomes(server)["kept"] == 100)

    postgresql.kill()
    send_rejected(server, 1000, seed=1)
    server.wait_until(lambda: outcomes(server)["lost"] >= 1000 - WAITING)
    assert server.get("/v1/review/images", headers=headers).status_code == 503
    assert server.get("/healthz/ready").status_code == 200
    server.wait_until(lambda: "the review queue is full" in "".join(server.log))
    log = "".join(server.log)
    assert "the review database fails" in log
    assert log.count("the review queue is full") == 1

    postgresql.start()
    server.wait_until(lambda: sum(outcomes(server).values()) == 1100, seconds=90)
    send_rejected(server, 100, seed=2)
    server.wait_until(lambda: sum(outcomes(server).values()) == 1200)
    outcome = outcomes(server)
    assert outcome["lost"] == 1000 - WAITING
    server.wait_until(lambda: f"; not kept: {outcome['lost']} images" in "".join(server.log))
    listed = server.get("/v1/review/images", headers=headers)
    assert listed.json()["counts"]["none"] == outcome["kept"] == 1200 - outcome["lost"]
    server.stop()
