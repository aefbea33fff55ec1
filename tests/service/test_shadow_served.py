"""A served shadow: what is counted of it, and that the live answers never notice."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from image_bytes import colour, encode
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families
from running_server import RunningServer, StartServer
from server_in_process import served
from tiny_model import TinyModel, reference, tiny_model, write_tiny_model

from isoserve import Client
from isoserve.service.batching.shadow_runner import WAITING_IMAGES
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.repository.shadow import REJECTED
from isoserve.service.settings import Settings

ALPHA = 0.05
LIVE = TinyModel()
OTHER = TinyModel(classes=("red", "green", "sky"), seed=7)
"""Another name for blue, other calibration images: it disagrees on some of both."""


def failing_on_white(model: TinyModel) -> bytes:
    """A model that passes its warm-up, on noise, and fails on a white image."""
    proto = tiny_model(model)
    node = helper.make_node
    at = next(i for i, each in enumerate(proto.graph.node) if "features" in each.output)
    proto.graph.node[at].output[:] = ["plain"]
    constants = {"bound": np.array(0.95, np.float32), "only": np.zeros(1, np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    added = [
        node("ReduceMin", ["plain"], ["darkest"], keepdims=0),
        node("Greater", ["darkest", "bound"], ["white"]),
        node("Cast", ["white"], ["index"], to=TensorProto.INT64),
        node("Gather", ["only", "index"], ["nothing"]),
        node("Add", ["plain", "nothing"], ["features"]),
    ]
    for offset, each in enumerate(added):
        proto.graph.node.insert(at + 1 + offset, each)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def repository_with(tmp_path: Path, shadow: TinyModel = OTHER) -> Path:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", LIVE)
    write_tiny_model(tmp_path / "m" / "2" / "model.onnx", shadow)
    return tmp_path


def comparison(server: RunningServer, version: int = 2) -> dict[str, Any]:
    versions = server.get("/v1/models/m").json()["versions"]
    known = next(each for each in versions if each["version"] == version)
    assert known["shadow"] is True
    return cast("dict[str, Any]", known["comparison"])


def series(server: RunningServer, name: str) -> dict[tuple[str, ...], float]:
    """Values above zero by the labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and sample.value
    }


def seen(server: RunningServer) -> int:
    """Images that the shadow was compared on, did not get to see or failed on."""
    found = comparison(server)
    return int(found["images"] + sum(found["dropped"].values()) + found["failed"])


def expected(images: NDArray[np.uint8]) -> Counter[tuple[str, ...]]:
    """(class_agrees, model, rejected, shadow_version, version) of each image, by float64."""
    live, other = reference(images, LIVE), reference(images, OTHER)
    who = {(True, True): "both", (True, False): "live", (False, True): "shadow"}
    counts: Counter[tuple[str, ...]] = Counter()
    for row in range(len(images)):
        names = (
            LIVE.classes[live["probabilities"][row].argmax()],
            OTHER.classes[other["probabilities"][row].argmax()],
        )
        rejected = (bool(live["p_value"][row] <= ALPHA), bool(other["p_value"][row] <= ALPHA))
        agrees = str(names[0] == names[1]).lower()
        counts[agrees, "m", who.get(rejected, "neither"), "2", "1"] += 1
    return counts


@pytest.fixture(scope="module")
def traffic() -> NDArray[np.uint8]:
    """uint8 [120, 8, 8, 3] of several brightnesses, so that every outcome occurs."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (120, 8, 8, 3))
    tint = rng.random((120, 1, 1, 3)) ** 2
    return (noise * tint * rng.uniform(0.1, 1.5, (120, 1, 1, 1))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("workers", [1, 2])
def test_agreement_is_counted_to_the_unit(
    start_server: StartServer, tmp_path: Path, traffic: NDArray[np.uint8], workers: int
) -> None:
    root = repository_with(tmp_path)
    server = start_server(root, "--shadow", "m:2:1", "--workers", str(workers))
    at_start = server.get("/metrics").text
    for agrees in ("true", "false"):
        for who in REJECTED:
            labels = f'class_agrees="{agrees}",model="m",rejected="{who}",shadow_version="2"'
            assert f'isoserve_shadow_images_total{{{labels},version="1"}} 0.0' in at_start
    for pixels in traffic:
        answer = server.post("/v1/predict", content=encode("PNG", pixels))
        assert (answer.status_code, answer.json()["version"]) == (200, 1)
    wanted = expected(traffic)
    assert len({key[2] for key in wanted}) >= 3
    assert len({key[0] for key in wanted}) == 2
    server.wait_until(
        lambda: sum(series(server, "isoserve_shadow_images_total").values()) == len(traffic)
    )
    assert series(server, "isoserve_shadow_images_total") == wanted
    assert sum(series(server, "isoserve_images_total").values()) == len(traffic)
    if workers == 1:
        found = comparison(server)
        with Client(server.url) as client:
            shadow = client.models()[0].versions[0]
        assert shadow.comparison is not None
        assert dataclasses.asdict(shadow.comparison) == found
        assert found["live_version"] == 1
        assert found["images"] == len(traffic)
        assert found["class_agrees"] == sum(n for key, n in wanted.items() if key[0] == "true")
        for who in REJECTED:
            assert found["rejected"][who] == sum(n for key, n in wanted.items() if key[2] == who)


def test_a_shadow_of_another_size_is_shown_the_file_and_pixels_alone_are_dropped(
    start_server: StartServer, tmp_path: Path
) -> None:
    root = repository_with(tmp_path, TinyModel(size=16))
    server = start_server(root, "--shadow", "m:2:1")
    for rgb in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert server.post("/v1/predict", content=colour(*rgb)).status_code == 200
    pixels = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    tensor = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8"}
    document = {"inputs": [{**tensor, "data": pixels.ravel().tolist()}]}
    assert server.post("/v2/models/m/infer", json=document).status_code == 200
    server.wait_until(lambda: seen(server) == 4)
    found = comparison(server)
    assert found["class_agrees"] == found["images"] == 3
    assert found["dropped"] == {"full": 0, "input": 1, "gone": 0}


def test_a_failing_shadow_is_counted_and_the_live_answers_go_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    root = repository_with(tmp_path)
    (root / "m" / "2" / "model.onnx").write_bytes(failing_on_white(OTHER))
    server = start_server(root, "--shadow", "m:2:1")
    white = encode("PNG", np.full((8, 8, 3), 255, dtype=np.uint8))
    for _ in range(5):
        assert server.post("/v1/predict", content=white).status_code == 200
    server.wait_until(lambda: seen(server) == 5)
    assert server.post("/v1/predict", content=colour(255, 0, 0)).status_code == 200
    server.wait_until(lambda: seen(server) == 6)
    assert (comparison(server)["failed"], comparison(server)["images"]) == (5, 1)
    assert series(server, "isoserve_shadow_failures_total") == {("m", "2"): 5.0}
    assert sum("shadow m version 2 fails" in line for line in server.log) == 1


def test_a_shadow_that_stands_still_holds_up_no_answer_and_loses_none(
    tmp_path: Path, traffic: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    standing, go = threading.Event(), threading.Event()
    images = [encode("PNG", pixels) for pixels in traffic[:60]]
    labels = [
        LIVE.classes[index]
        for index in reference(traffic[:60], LIVE)["probabilities"].argmax(axis=1)
    ]
    batches, more = divmod(WAITING_IMAGES, len(images))
    asked = 1 + (batches + 1) * len(images)
    with served(Settings(repository=repository_with(tmp_path), shadow="m:2:1")) as (app, client):
        shadow = app.repository.shadow_of("m")
        assert shadow is not None
        run = shadow.model.run

        def stand_still(slot: int, pixels: Pixels) -> Outputs:
            standing.set()
            assert go.wait(60)
            return run(slot, pixels)

        def comparison() -> dict[str, Any]:
            versions = client.get("/v1/models/m").json()["versions"]
            return cast("dict[str, Any]", versions[0]["comparison"])

        monkeypatch.setattr(shadow.model, "run", stand_still)
        try:
            assert client.post("/v1/predict", content=images[0]).json()["version"] == 1
            assert standing.wait(30)  # the shadow has that image; the next ones wait for it
            for _ in range(batches + 1):
                form = [("files", image) for image in images]
                answer = client.post("/v1/predict/batch", files=form).json()
                assert answer["version"] == 1
                assert [each["prediction"]["label"] for each in answer["results"]] == labels
            assert not go.is_set()
            assert comparison()["images"] == 0
            dropped = {"full": len(images) - more, "input": 0, "gone": 0}
            assert comparison()["dropped"] == dropped
            lost = 'isoserve_shadow_dropped_total{model="m",reason="full",shadow_version="2"}'
            assert f"{lost} {dropped['full']}.0" in client.get("/metrics").text
        finally:
            go.set()
        deadline = time.monotonic() + 30
        while comparison()["images"] < asked - dropped["full"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert comparison()["images"] == asked - dropped["full"] == 1 + WAITING_IMAGES
        assert comparison()["dropped"] == dropped


def test_a_named_shadow_that_is_not_there_is_told_of_once_until_it_has_appeared(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", LIVE)
    server = start_server(tmp_path, "--shadow", "m:2:1,other:1", "--watch-seconds", "0.05")

    def warnings(name: str) -> int:
        return sum("WARNING" in line and f" {name}, named as" in line for line in server.log)

    def state() -> str:
        return str(server.get("/v1/models/m").json()["versions"][0]["state"])

    server.wait_until(lambda: warnings("m version 2") == warnings("other version 1") == 1)
    write_tiny_model(tmp_path / "m" / "2" / "model.onnx", OTHER)
    server.wait_until(lambda: state() == "shadow")
    assert warnings("m version 2") == 1
    shutil.rmtree(tmp_path / "m" / "2")
    server.wait_until(lambda: warnings("m version 2") == 2)
    assert warnings("other version 1") == 1


def test_a_shadow_that_comes_late_is_refused_while_bad_and_never_answers(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx", LIVE)
    server = start_server(tmp_path, "--shadow", "m:2:1", "--watch-seconds", "0.1")

    def version_2() -> dict[str, Any]:
        newest = server.get("/v1/models/m").json()["versions"][0]
        return cast("dict[str, Any]", newest) if newest["version"] == 2 else {"state": "missing"}

    assert version_2()["state"] == "missing"
    (tmp_path / "m" / "2").mkdir()
    (tmp_path / "m" / "2" / "model.onnx").write_bytes(b"no model")
    server.wait_until(lambda: version_2().get("reason") == "not_onnx")
    assert (version_2()["shadow"], version_2()["comparison"]) == (True, None)
    write_tiny_model(tmp_path / "m" / "2" / "model.onnx", OTHER)
    server.wait_until(lambda: version_2()["state"] == "shadow")
    assert server.post("/v1/predict", content=colour(255, 0, 0)).json()["version"] == 1
    assert server.get("/v1/models/m").json()["serving"] == 1
    assert server.post("/v2/models/m/versions/2/infer", json={"inputs": []}).status_code >= 400
    server.wait_until(lambda: comparison(server)["images"] == 1)
    # The next version that is published serves, and is what the shadow is compared with.
    write_tiny_model(tmp_path / "m" / "3" / "model.onnx", LIVE)
    server.wait_until(lambda: server.get("/v1/models/m").json()["serving"] == 3)
    server.post("/v1/predict", content=colour(255, 0, 0))
    server.wait_until(lambda: comparison(server)["images"] == 1)
    assert comparison(server)["live_version"] == 3
