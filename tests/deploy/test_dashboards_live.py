"""Every panel's expression, asked of a Prometheus that scrapes the service while it works."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from deploy_tools import DEPLOY, RULES, run_tool, tool
from image_bytes import encode
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

MODEL = TinyModel()
SECONDS = 60
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{path.stem}:{panel['title']}:{target['refId']}")
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel["targets"]
]


@dataclass
class Prometheus:
    """A Prometheus server on this machine."""

    url: str

    def values(self, expression: str) -> list[float]:
        """The instant vector of a dashboard's expression, its variables set to everything."""
        filled = expression.replace("$__rate_interval", "5m")
        filled = re.sub(r"\$(job|model|version)", ".+", filled)
        answer = httpx.get(self.url + "/api/v1/query", params={"query": filled}, timeout=10)
        document = answer.json()
        assert document["status"] == "success", document
        return [float(sample["value"][1]) for sample in document["data"]["result"]]

    def wait_for(self, expression: str, seconds: float = SECONDS) -> list[float]:
        """The values, once there are any that are numbers."""
        until = time.monotonic() + seconds
        while True:
            found = [value for value in self.values(expression) if value == value]
            if found or time.monotonic() > until:
                return found
            time.sleep(0.5)


@pytest.fixture(scope="module")
def prometheus(
    start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Scrapes, every second, a service that has judged some hundred images, good and bad."""
    program = tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    write_tiny_model(folder / "models" / "tiny" / "1" / "model.onnx", MODEL)
    server = start_server(folder / "models")
    _yesterday(folder)
    _configuration(folder, server.url.removeprefix("http://"))
    port = _free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait_until_ready(running, folder / "log")
        assert running.wait_for('up{job="isoserve"} == 1')
        for _ in range(3):
            _send(server)
            time.sleep(1.5)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_is_not_empty_while_the_service_works(
    prometheus: Prometheus, expression: str
) -> None:
    assert prometheus.wait_for(expression)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ['isoserve_images_total{job=~"isoserv"}', "isoserve_images"])
def test_an_expression_that_finds_nothing_is_seen(prometheus: Prometheus, wrong: str) -> None:
    assert not prometheus.wait_for(wrong, seconds=2)


@pytest.mark.slow
def test_what_prometheus_shows_is_what_was_sent(prometheus: Prometheus) -> None:
    assert prometheus.wait_for("sum(isoserve_images_total) == 600 and sum(isoserve_images_total)")
    assert prometheus.values("sum(isoserve_p_value_count)") == [600.0]
    assert prometheus.values("sum(isoserve_invalid_images_total)") == [3.0]


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


def _yesterday(folder: Path) -> None:
    """A block of yesterday's mix of classes, which the mix of today is compared with."""
    labels = 'job="isoserve",model="tiny"'
    now = int(time.time())
    series = {f'isoserve:class_mix:count{{{labels},label="{name}"}}': 500 for name in MODEL.classes}
    series[f"isoserve:class_mix:images{{{labels}}}"] = 500 * len(MODEL.classes)
    for name in MODEL.classes:
        series[f'isoserve:class_mix:share{{{labels},label="{name}"}}'] = 1 / len(MODEL.classes)
    lines = [
        f"{name} {value} {now - 86400 + minute * 60}"
        for name, value in series.items()
        for minute in range(-5, 10)
    ]
    (folder / "yesterday.txt").write_text("\n".join([*lines, "# EOF"]) + "\n")
    arguments = ("tsdb", "create-blocks-from", "openmetrics")
    made = run_tool("promtool", *arguments, folder / "yesterday.txt", folder / "data")
    assert made.returncode == 0, made.stderr


def _configuration(folder: Path, target: str) -> None:
    """Ours, but quick: every group and every scrape once a second."""
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", path.read_text()))
    document = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    document["global"] = {
        "scrape_interval": "1s",
        "evaluation_interval": "1s",
        "scrape_timeout": "1s",
    }
    document["rule_files"] = [str(folder / path.name) for path in RULES.glob("*.yml")]
    document["alerting"] = {}
    document["scrape_configs"] = [
        {"job_name": "isoserve", "static_configs": [{"targets": [target]}]}
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(document))


def _wait_until_ready(running: Prometheus, log: Path) -> None:
    until = time.monotonic() + SECONDS
    while True:
        try:
            if httpx.get(running.url + "/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
