"""Every panel's expression, asked of a Prometheus that scrapes the service while it works."""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from deploy_tools import DEPLOY, tool
from image_bytes import encode
from PIL import Image
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

GRAFANA = DEPLOY / "grafana"
MODEL = TinyModel()
SECONDS = 60
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{path.stem}:{panel['title']}:{target['refId']}")
    for path in sorted((GRAFANA / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel["targets"]
]


@dataclass
class Scraped:
    """A Prometheus that scrapes the service, and since when."""

    server: RunningServer
    prometheus: Any
    since: float

    def values(self, expression: str) -> list[float]:
        """The instant vector of a dashboard's expression, its variables set to everything."""
        filled = expression.replace("$__rate_interval", "5m")
        filled = re.sub(r"\$(job|model|version)", ".+", filled)
        return [float(sample["value"][1]) for sample in self.prometheus.samples(filled)]

    def wait_for(self, expression: str, seconds: float = SECONDS) -> list[float]:
        """The values, once there are any that are numbers."""
        until = time.monotonic() + seconds
        while True:
            found = [value for value in self.values(expression) if value == value]
            if found or time.monotonic() > until:
                return found
            time.sleep(0.5)


@pytest.fixture(scope="module")
def scripts() -> Iterator[ModuleType]:
    """deploy/grafana/draw_dashboards.py and what it imports."""
    before = set(sys.modules)
    sys.path.insert(0, str(GRAFANA))
    yield importlib.import_module("draw_dashboards")
    sys.path.remove(str(GRAFANA))
    for name in set(sys.modules) - before:
        if str(GRAFANA) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def scraped(
    start_server: StartServer, tmp_path_factory: pytest.TempPathFactory, scripts: ModuleType
) -> Iterator[Scraped]:
    """Every second, a service that has judged some hundred images, good and bad."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    write_tiny_model(folder / "models" / "tiny" / "1" / "model.onnx", MODEL)
    server = start_server(folder / "models", "--shadow", scripts.shadows(folder / "models"))
    target = server.url.removeprefix("http://")
    prometheus = scripts.LivePrometheus(folder, target, scripts.SpeedUp())
    scripts.yesterday(prometheus, server.url)
    with prometheus:
        running = Scraped(server, prometheus, time.time())
        assert running.wait_for('up{job="isoserve"} == 1')
        for _ in range(3):
            _send(server)
            time.sleep(1.5)
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_is_not_empty_while_the_service_works(scraped: Scraped, expression: str) -> None:
    assert scraped.wait_for(expression)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ['isoserve_images_total{job=~"isoserv"}', "isoserve_images"])
def test_an_expression_that_finds_nothing_is_seen(scraped: Scraped, wrong: str) -> None:
    assert not scraped.wait_for(wrong, seconds=2)


@pytest.mark.slow
def test_what_prometheus_shows_is_what_was_sent(scraped: Scraped) -> None:
    assert scraped.wait_for("sum(isoserve_images_total) == 600 and sum(isoserve_images_total)")
    assert scraped.values("sum(isoserve_p_value_count)") == [600.0]
    assert scraped.values("sum(isoserve_invalid_images_total)") == [3.0]
    compared = "isoserve_shadow_images_total"
    # Of the same file, and its queue may have been full.
    seen = f"sum({compared}) + sum(isoserve_shadow_dropped_total)"
    assert scraped.wait_for(f"{seen} == 600 and {seen}")
    assert scraped.values(f'sum({compared}{{class_agrees="false"}})') == [0.0]
    assert scraped.values(f'sum({compared}{{rejected=~"live|shadow"}})') == [0.0]


@pytest.mark.slow
def test_prometheus_keeps_the_request_behind_a_number(scraped: Scraped) -> None:
    headers = {"X-Request-ID": "seen-by-prometheus"}
    assert scraped.server.get("/v1/models/none", headers=headers).status_code == 404
    until = time.monotonic() + SECONDS
    selector = 'isoserve_request_duration_seconds_bucket{status="404"}'
    while {"request_id": "seen-by-prometheus"} not in scraped.prometheus.exemplars(
        selector, scraped.since
    ):
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.slow
def test_both_dashboards_are_drawn_and_an_empty_panel_is_no_picture(
    scraped: Scraped, scripts: ModuleType, tmp_path: Path
) -> None:
    assert all(scraped.wait_for(expression.values[0]) for expression in EXPRESSIONS)
    span = (scraped.since, time.time())
    scripts.draw(scraped.prometheus, span, tmp_path)
    for name in ("model", "service"):
        with Image.open(tmp_path / f"dashboard_{name}.png") as picture:
            assert min(picture.size) > 500
    document = json.loads((GRAFANA / "dashboards" / "model.json").read_text())
    document["panels"][0]["targets"][0]["expr"] = 'isoserve_images_total{job="another"}'
    with pytest.raises(SystemExit, match="Images, 30 minutes"):
        scripts.answers(document, scraped.prometheus, span)


def _send(server: RunningServer) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, MODEL.size, MODEL.size, 3), dtype=np.uint8)
    pixels[:190] = MODEL.calibration_images[:190]
    images = [encode("PNG", each) for each in pixels]
    for begin in range(0, len(images), 50):
        files = [("files", ("image.png", data)) for data in images[begin : begin + 49]]
        assert server.post("/v1/predict/batch", files=files).status_code == 200
        assert server.post("/v1/predict", content=images[begin + 49]).status_code == 200
    assert server.post("/v1/predict", content=b"no image").status_code in (400, 415)
