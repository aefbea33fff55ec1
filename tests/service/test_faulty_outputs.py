"""A network that answers nonsense on some images, behind a real socket."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from faulty_model import (
    INFINITE_DISTANCE,
    NAN_PROBABILITIES,
    NAN_SCORE,
    P_VALUE_OF_7,
    RAISES,
    write_faulty_model,
)
from image_bytes import colour
from running_server import RunningServer, StartServer

from isoserve.commands.predict import predict

ALL = (RAISES, P_VALUE_OF_7, NAN_PROBABILITIES, NAN_SCORE, INFINITE_DISTANCE)
RED, GREEN = colour(255, 0, 0), colour(0, 255, 0)


@pytest.fixture(scope="module", name="faulty")
def _faulty(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    root = tmp_path_factory.mktemp("faulty")
    write_faulty_model(root / "m" / "1" / "model.onnx")
    return start_server(root, "--slots", "1")


@pytest.mark.parametrize("fault", ALL)
def test_an_output_that_cannot_be_right_is_500_and_never_a_verdict(
    faulty: RunningServer, fault: tuple[int, int, int]
) -> None:
    answer = faulty.post("/v1/predict", content=colour(*fault))
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "inference_failed"
    assert faulty.post("/v1/predict", content=RED).status_code == 200


@pytest.mark.parametrize("fault", ALL)
def test_the_others_of_its_batch_have_their_verdicts(
    faulty: RunningServer, fault: tuple[int, int, int]
) -> None:
    images = [RED, colour(*fault), GREEN]
    answer = faulty.post("/v1/predict/batch", files=[("files", image) for image in images])
    assert answer.status_code == 200
    first, wrong, last = answer.json()["results"]
    assert first["prediction"]["label"] == "red"
    assert last["prediction"]["label"] == "green"
    assert (wrong["status"], wrong["reason"]) == (500, "inference_failed")


def test_the_inference_protocol_names_the_image(faulty: RunningServer) -> None:
    pixels = np.stack([np.full((8, 8, 3), each, np.uint8) for each in ((255, 0, 0), RAISES)])
    given = {
        "name": "images",
        "datatype": "UINT8",
        "shape": list(pixels.shape),
        "data": pixels.ravel().tolist(),
    }
    answer = faulty.post("/v2/models/m/infer", json={"inputs": [given]})
    assert answer.status_code == 500
    assert "image 1" in answer.json()["error"]


def test_no_sum_in_the_metrics_is_ever_not_a_number(faulty: RunningServer) -> None:
    for fault in ALL:
        faulty.post("/v1/predict", content=colour(*fault))
    faulty.post("/v1/predict", content=RED)
    lines = [line for line in faulty.get("/metrics").text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.startswith("isoserve_p_value_sum")]
    assert not [line for line in lines if math.isnan(float(line.rsplit(" ", 1)[1]))]


def test_predict_gives_the_others_and_says_which_has_none(tmp_path: Path) -> None:
    model = write_faulty_model(tmp_path / "model.onnx")
    for name, image in (("a.png", RED), ("b.png", colour(*RAISES)), ("c.png", GREEN)):
        (tmp_path / name).write_bytes(image)
    given = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    result = CliRunner().invoke(predict, [*given, "--model", str(model), "--format", "jsonl"])
    assert result.exit_code == 1
    first, wrong, last = (json.loads(line) for line in result.stdout.splitlines())
    assert first["prediction"]["label"] == "red"
    assert last["prediction"]["label"] == "green"
    assert wrong["error"]["reason"] == "inference_failed"
