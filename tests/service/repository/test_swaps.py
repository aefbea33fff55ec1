"""Versions that come and go while requests are answered: each by one version, and none lost."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from image_bytes import colour
from server_in_process import served
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.http.routes import models
from isoserve.service.settings import Settings

RED = colour(255, 0, 0)
FEW = 5

Said = tuple[int, int, str]
"""Of an answer: its status, the version, and the class of its last image."""


def publish(root: Path, version: int) -> None:
    """A version whose class names contain its number."""
    classes = tuple(f"{name} of {version}" for name in ("red", "green", "blue"))
    write_tiny_model(root / "m" / str(version) / "model.onnx", TinyModel(classes=classes))


def ask_predict(client: httpx.Client) -> Said:
    answer = client.post("/v1/predict", content=RED)
    if answer.status_code != 200:
        return answer.status_code, 0, ""
    document = answer.json()
    return 200, document["version"], document["prediction"]["label"]


def ask_batch(client: httpx.Client) -> Said:
    answer = client.post("/v1/predict/batch", files=[("files", RED)] * 3)
    if answer.status_code != 200:
        return answer.status_code, 0, ""
    document = answer.json()
    (label,) = {each["prediction"]["label"] for each in document["results"]}
    return 200, document["version"], label


def ask_protocol(client: httpx.Client) -> Said:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3]}
    asked = {"inputs": [{**tensor, "data": [255, 0, 0] * 64}], "outputs": [{"name": "label"}]}
    answer = client.post("/v2/models/m/infer", json=asked)
    if answer.status_code != 200:
        return answer.status_code, 0, ""
    document = answer.json()
    return 200, int(document["model_version"]), document["outputs"][0]["data"][0]


class Load:
    """Clients that ask without a pause, each in its own way, until they are stopped."""

    def __init__(self, url: httpx.URL) -> None:
        self.said: Counter[Said] = Counter()
        self._url = url
        self._stop = threading.Event()
        self._moved = threading.Condition()

    def ask(self, way: Callable[[httpx.Client], Said]) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                said = way(client)
                with self._moved:
                    self.said[said] += 1
                    self._moved.notify_all()

    def go_on(self, status: int = 200) -> None:
        """Returns when a few more have been answered with this status."""
        with self._moved:
            more = self._answered(status) + FEW
            assert self._moved.wait_for(lambda: self._answered(status) >= more, 30)

    def stop(self) -> None:
        self._stop.set()

    def _answered(self, status: int) -> int:
        return sum(count for said, count in self.said.items() if said[0] == status)


@contextmanager
def under_load(url: httpx.URL) -> Iterator[Load]:
    load = Load(url)
    ways = (ask_predict, ask_batch, ask_protocol)
    with ThreadPoolExecutor(len(ways)) as pool:
        asking = [pool.submit(load.ask, way) for way in ways]
        try:
            yield load
        finally:
            load.stop()
    for each in asking:
        each.result()


def check(load: Load, statuses: set[int], versions: set[int]) -> None:
    """Every answer has one of these statuses, and names and classes of one version."""
    assert {status for status, _, _ in load.said} == statuses
    answered = [said for said in load.said if said[0] == 200]
    assert {version for _, version, _ in answered} == versions
    assert all(label == f"red of {version}" for _, version, label in answered)


def test_every_request_is_answered_by_one_version_whatever_is_published_and_removed(
    tmp_path: Path,
) -> None:
    publish(tmp_path, 1)
    settings = Settings(repository=tmp_path, watch_seconds=600, max_batch=2)
    with served(settings) as (app, client), under_load(client.base_url) as load:
        for version in range(2, 6):
            load.go_on()
            publish(tmp_path, version)
            app.repository.scan()
            load.go_on()
            bad = tmp_path / "m" / "9" / "model.onnx"
            bad.parent.mkdir()
            bad.write_bytes(b"junk")
            app.repository.scan()
            load.go_on()
            shutil.rmtree(bad.parent)
        shutil.rmtree(tmp_path / "m" / "5")
        app.repository.scan()
        assert client.post("/v1/predict", content=RED).json()["version"] == 4
    check(load, {200}, {1, 2, 3, 4, 5})


def test_requests_to_a_model_that_is_unloaded_get_503_and_no_other_error(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    settings = Settings(repository=tmp_path, watch_seconds=600, max_batch=2)
    with served(settings) as (app, client), under_load(client.base_url) as load:
        for _ in range(4):
            load.go_on()
            app.repository.unload("m")
            load.go_on(503)
            app.repository.load("m")
    check(load, {200, 503}, {1})


def test_a_shadow_is_removed_and_returns_and_no_answer_is_lost(tmp_path: Path) -> None:
    for version in (1, 2):
        publish(tmp_path, version)
    settings = Settings(repository=tmp_path, watch_seconds=600, max_batch=2, shadow="m:2:1")
    with served(settings) as (app, client), under_load(client.base_url) as load:
        for _ in range(3):
            load.go_on()
            shutil.rmtree(tmp_path / "m" / "2")
            app.repository.scan()
            assert app.repository.shadow_of("m") is None
            load.go_on()
            publish(tmp_path, 2)
            app.repository.scan()
            assert app.repository.shadow_of("m") is not None
    check(load, {200}, {1})


def test_models_are_listed_while_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_tiny_model(tmp_path / name / "1" / "model.onnx")
    with served(Settings(repository=tmp_path, watch_seconds=600)) as (app, client):
        document = models._document

        def and_b_leaves(*given: Any) -> Any:
            app.repository.models.pop("b", None)
            return document(*given)

        monkeypatch.setattr(models, "_document", and_b_leaves)
        for expected in (["a", "b"], ["a"]):
            answer = client.get("/v1/models")
            assert [each["name"] for each in answer.json()["models"]] == expected
