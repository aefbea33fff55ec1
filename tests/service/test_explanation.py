"""``explain=true``: the pixels the model saw, bit for bit, and its distances."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from image_bytes import colour, encode
from PIL import Image
from running_server import RunningServer
from tiny_model import TinyModel, reference

from models.card import InputSpec
from models.preprocessing import to_pixels
from service.schemas import BatchAnswer, Explanation, Verdict


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
    want = reference(seen[None], TinyModel())["distances"][0]
    assert verdict.explanation.distances == pytest.approx(want, abs=1e-5)


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
