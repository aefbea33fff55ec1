"""``explain=true``: the pixels the model saw, bit for bit, and its distances."""

from __future__ import annotations

import base64
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_bytes import colour, encode
from PIL import Image
from running_server import RunningServer
from server_in_process import served
from tiny_model import TinyModel, reference, write_tiny_model

from isoserve.models.card import InputSpec
from isoserve.models.preprocessing import to_pixels
from isoserve.service.http.schemas import BatchAnswer, Explanation, Verdict
from isoserve.service.inference import images
from isoserve.service.settings import Settings


def photo() -> np.ndarray:
    """uint8 [40, 60, 3], smooth, so that resizing matters."""
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([rows * 6, columns * 4, rows + columns], axis=2).astype(np.uint8)


def pixels_of(explanation: Explanation) -> np.ndarray:
    prefix, data = explanation.seen.split(",")
    assert prefix == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_an_explanation_shows_the_pixels_of_the_one_path_and_all_distances(
    server: RunningServer,
) -> None:
    body = encode("PNG", photo())
    answer = server.post("/v1/predict?explain=true", content=body)
    verdict = Verdict.model_validate_json(answer.content)
    assert verdict.explanation is not None
    seen = to_pixels(Image.open(io.BytesIO(body)), InputSpec(height=8, width=8))
    assert (pixels_of(verdict.explanation) == seen).all()
    expected = reference(seen[None], TinyModel())["distances"][0]
    assert verdict.explanation.distances == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("side", "thread"), [(40, "slot-0"), (600, "decode-0")])
def test_an_explained_image_is_decoded_once_and_a_large_one_beside_the_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, thread: str
) -> None:
    decoded_in: list[str] = []
    decode_pixels = images.decode_pixels

    def noted(*arguments: Any) -> Any:
        decoded_in.append(threading.current_thread().name)
        return decode_pixels(*arguments)

    monkeypatch.setattr(images, "decode_pixels", noted)
    body = encode("PNG", np.asarray(Image.fromarray(photo()).resize((side, side))))
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    with served(Settings(repository=tmp_path, slots=1)) as (_, client):
        answer = client.post("/v1/predict?explain=true", content=body)
    verdict = Verdict.model_validate_json(answer.content)
    assert decoded_in == [thread]
    assert verdict.explanation is not None
    seen = to_pixels(Image.open(io.BytesIO(body)), InputSpec(height=8, width=8))
    assert (pixels_of(verdict.explanation) == seen).all()


def test_each_image_of_a_batch_is_explained_by_itself(server: RunningServer) -> None:
    files = [("files", ("a", colour(255, 0, 0))), ("files", ("b", colour(0, 0, 255)))]
    answer = server.post("/v1/predict/batch?explain=true", files=files)
    seen = []
    for result in BatchAnswer.model_validate_json(answer.content).results:
        assert isinstance(result, Verdict)
        assert result.explanation is not None
        seen.append(pixels_of(result.explanation)[0, 0].tolist())
    assert seen == [[255, 0, 0], [0, 0, 255]]


def test_an_explanation_comes_only_when_asked_for(server: RunningServer) -> None:
    image = colour(255, 0, 0)
    assert "explanation" not in server.post("/v1/predict", content=image).json()
    assert "explanation" not in server.post("/v1/predict?explain=false", content=image).json()
    refused = server.post("/v1/predict?explain=yes", content=image)
    assert refused.status_code == 422
    assert "explain" in refused.json()["detail"]
