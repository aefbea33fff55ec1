"""POST /v1/predict and /v1/predict/batch over a real socket."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from image_bytes import colour, encode
from running_server import RunningServer
from tiny_model import TinyModel, reference

from isoserve.service.http.schemas import BatchAnswer, ProblemDocument, Verdict

RED = colour(255, 0, 0)


def noise(n: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def problem(response: object, status: int, reason: str) -> ProblemDocument:
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    document = ProblemDocument.model_validate_json(response.content)  # type: ignore[attr-defined]
    assert document.status == status
    assert document.reason == reason
    assert document.id == response.headers["x-request-id"]  # type: ignore[attr-defined]
    return document


def test_the_verdict_equals_the_formulas_in_float64(server: RunningServer) -> None:
    model = TinyModel()
    images = noise(12)
    expected = reference(images, model)
    for row, pixels in enumerate(images):
        response = server.post("/v1/predict?top_k=3", content=encode("PNG", pixels))
        verdict = Verdict.model_validate_json(response.content, strict=True)
        assert response.status_code == 200
        assert (verdict.model, verdict.version) == ("tiny", 1)
        probabilities = np.zeros(3)
        for entry in verdict.top_k:
            assert entry.label == model.classes[entry.index]
            probabilities[entry.index] = entry.probability
        assert probabilities == pytest.approx(expected["probabilities"][row], abs=1e-5)
        assert verdict.prediction == verdict.top_k[0]
        assert verdict.prediction.index == expected["probabilities"][row].argmax()
        assert verdict.ood.p_value == pytest.approx(expected["p_value"][row], abs=1e-6)
        assert verdict.ood.class_p_value == pytest.approx(expected["class_p_value"][row], abs=1e-6)
        assert verdict.ood.entropic_score == pytest.approx(
            expected["entropic_score"][row], abs=1e-5
        )
        assert verdict.ood.is_ood == (np.float32(verdict.ood.p_value) <= np.float32(0.05))


def test_a_calibration_like_image_is_in_and_a_gray_one_is_out(server: RunningServer) -> None:
    verdicts = {
        name: Verdict.model_validate_json(server.post("/v1/predict", content=image).content)
        for name, image in (("red", RED), ("gray", colour(128, 128, 128)))
    }
    assert not verdicts["red"].ood.is_ood
    assert verdicts["red"].prediction.label == "red"
    assert verdicts["gray"].ood.is_ood


def test_a_multipart_file_gets_the_same_verdict_as_a_raw_body(server: RunningServer) -> None:
    raw = server.post("/v1/predict", content=RED).json()
    form = server.post("/v1/predict", files={"file": ("red.png", RED, "image/png")}).json()
    assert {**raw, "id": ""} == {**form, "id": ""}


def test_alpha_moves_the_verdict_and_nothing_else(server: RunningServer) -> None:
    image = encode("PNG", noise(1)[0])
    usual = Verdict.model_validate_json(server.post("/v1/predict", content=image).content)
    exactly = server.post(f"/v1/predict?alpha={usual.ood.p_value}", content=image)
    below = server.post(f"/v1/predict?alpha={usual.ood.p_value * 0.999}", content=image)
    assert exactly.json()["ood"]["is_ood"] is True
    assert below.json()["ood"]["is_ood"] is False
    assert exactly.json()["ood"]["p_value"] == usual.ood.p_value


@pytest.mark.parametrize(
    "query",
    [
        *("alpha=0", "alpha=1", "alpha=-0.1", "alpha=2", "alpha=nan", "alpha=inf", "alpha=x"),
        *("alpha=", "top_k=0", "top_k=-1", "top_k=1.5", "top_k=x", "version=0", "version=x"),
        *("version=99999999999999999999", "alpha=0.1&alpha=0.2", "alhpa=0.1"),
    ],
)
def test_a_bad_parameter_is_a_422_that_names_it(server: RunningServer, query: str) -> None:
    document = problem(server.post(f"/v1/predict?{query}", content=RED), 422, "bad_parameter")
    assert query.split("=")[0] in document.detail


def test_top_k_beyond_the_classes_names_them_all(server: RunningServer) -> None:
    answer = server.post("/v1/predict?top_k=1000", content=RED).json()
    assert [entry["label"] for entry in answer["top_k"]] == ["red", "green", "blue"]


def test_an_unknown_model_or_version_is_a_404(server: RunningServer) -> None:
    problem(server.post("/v1/predict?model=nope", content=RED), 404, "no_such_model")
    problem(server.post("/v1/predict?model=tiny&version=7", content=RED), 404, "no_such_version")
    assert server.post("/v1/predict?model=tiny&version=1", content=RED).status_code == 200


def test_what_is_no_image_is_refused_and_the_next_image_is_served(server: RunningServer) -> None:
    assert server.post("/v1/predict", content=b"no image at all").status_code == 415
    assert server.post("/v1/predict", content=b"").status_code == 400
    assert (
        server.post("/v1/predict", content=encode("PNG", noise(1, 64)[0])[:3000]).status_code == 400
    )
    assert server.post("/v1/predict", content=RED).status_code == 200


def test_an_image_of_too_many_pixels_is_a_413(server: RunningServer) -> None:
    header = bytearray(colour(0, 0, 0))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    assert server.post("/v1/predict", content=bytes(header)).status_code == 413


def test_a_batch_answers_in_order_and_a_bad_image_fails_alone(server: RunningServer) -> None:
    images = [RED, b"not an image", colour(0, 255, 0), colour(0, 0, 255)]
    response = server.post(
        "/v1/predict/batch",
        files=[("files", (f"{i}.png", image)) for i, image in enumerate(images)],
    )
    assert response.status_code == 200
    answer = BatchAnswer.model_validate_json(response.content)
    kinds = [type(result) for result in answer.results]
    assert kinds == [Verdict, ProblemDocument, Verdict, Verdict]
    labels = [r.prediction.label for r in answer.results if isinstance(r, Verdict)]
    assert labels == ["red", "green", "blue"]
    assert [result.id for result in answer.results] == [f"{answer.id}/{i}" for i in range(4)]


def test_a_batch_of_more_images_than_allowed_is_a_413(server: RunningServer) -> None:
    files = [("files", (f"{i}.png", RED)) for i in range(65)]
    problem(server.post("/v1/predict/batch", files=files), 413, "too_many_images")


def test_a_batch_that_is_no_form_or_has_no_files_is_refused(server: RunningServer) -> None:
    problem(server.post("/v1/predict/batch", content=RED), 415, "not_multipart")
    problem(server.post("/v1/predict/batch", files={"file": ("a", RED)}), 400, "no_image")


def test_a_sane_request_id_comes_back_and_a_wild_one_is_replaced(server: RunningServer) -> None:
    kept = server.post("/v1/predict", content=RED, headers={"X-Request-ID": "trace-1.b:2"})
    assert kept.headers["x-request-id"] == kept.json()["id"] == "trace-1.b:2"
    for wild in ("x" * 129, "a b", '"}{', ""):
        made = server.post("/v1/predict", content=RED, headers={"X-Request-ID": wild})
        assert made.headers["x-request-id"] == made.json()["id"] != wild
