"""The generator behind the compose file's profile ``traffic``."""

from __future__ import annotations

import importlib.util
import random
import sys
from types import ModuleType

import numpy as np
import pytest
from deploy_tools import DEPLOY
from running_server import RunningServer


@pytest.fixture(scope="module")
def traffic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("traffic_generator", DEPLOY / "traffic.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_round_reaches_the_service(
    traffic: ModuleType, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged() -> float:
        lines = server.get("/metrics").text.splitlines()
        return sum(
            float(each.split()[-1]) for each in lines if each.startswith("isoserve_images_t")
        )

    monkeypatch.setattr(traffic, "SEARCH_SECONDS", 1.0)
    arguments = [
        "traffic",
        "--url",
        server.url,
        "--rate",
        "50",
        "--seconds",
        "0.2",
        "--rounds",
        "1",
        "--model",
        "tiny",
    ]
    monkeypatch.setattr(sys, "argv", [*arguments, "--images", "/nonexistent"])
    before = judged()
    traffic.main()
    assert judged() >= before + 8


def test_fog_is_paler_and_flatter_than_what_it_hides(traffic: ModuleType) -> None:
    rng = random.Random(1)
    images = [traffic.drawing(rng) for _ in range(20)]
    for image in images:
        clear, misty = np.asarray(image, float), np.asarray(traffic.fogged(image, rng), float)
        assert misty.shape == clear.shape
        assert misty.std() < clear.std()
        assert misty[:8].mean() > 150


def test_the_same_seed_draws_the_same_pictures(traffic: ModuleType) -> None:
    for paint in (traffic.drawing, traffic.foreign):
        first, second = paint(random.Random(3)), paint(random.Random(3))
        assert first.tobytes() == second.tobytes()
