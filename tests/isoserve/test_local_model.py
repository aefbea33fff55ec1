"""``isoserve.load``: the verdicts of a server, in this process."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from image_bytes import colour, encode
from PIL import Image
from running_server import RunningServer
from tiny_model import TinyModel, reference, write_tiny_model

import isoserve
from isoserve.models.errors import InputError

RED = np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def model(model_file: Path) -> isoserve.LocalModel:
    return isoserve.load(model_file)


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def test_a_path_bytes_a_file_a_picture_and_an_array_give_one_verdict(
    model: isoserve.LocalModel, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    pixels = noise(1)[0]
    path.write_bytes(encode("PNG", pixels))
    sources = [
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        Image.open(path),
        Image.fromarray(pixels),
        pixels,
    ]
    verdicts = [model.predict(source) for source in sources]
    assert verdicts == [verdicts[0]] * len(sources)
    sources[3] = io.BytesIO(path.read_bytes())
    for found in (model.predict(sources), model.predict(iter(sources[4:] * 3))):
        for verdict in found:  # the last digit of a float depends on the size of the batch
            assert verdict.prediction.label == verdicts[0].prediction.label
            assert verdict.ood.p_value == pytest.approx(verdicts[0].ood.p_value, abs=1e-6)


def test_the_verdict_is_the_one_of_the_formulas(model: isoserve.LocalModel) -> None:
    images = noise(70)
    found = model.predict(list(images), alpha=0.3, top_k=2, explain=True)
    assert found == model.predict(images, alpha=0.3, top_k=2, explain=True)
    expected = reference(images)
    for row, verdict in enumerate(found):
        assert isinstance(verdict, isoserve.Verdict)
        assert verdict.prediction.index == expected["probabilities"][row].argmax()
        assert verdict.prediction.label == model.classes[verdict.prediction.index]
        assert verdict.ood.p_value == pytest.approx(expected["p_value"][row], abs=1e-6)
        assert verdict.ood.is_ood == (np.float32(verdict.ood.p_value) <= np.float32(0.3))
        assert verdict.ood.alpha == 0.3
        assert len(verdict.top_k) == 2
        assert verdict.explanation is not None
        assert verdict.explanation.distances == pytest.approx(expected["distances"][row], abs=1e-5)
        json.dumps(asdict(verdict.ood))  # plain numbers


def test_the_verdict_is_the_one_of_a_server(
    model: isoserve.LocalModel, server: RunningServer
) -> None:
    with isoserve.Client(server.url) as client:
        for image in (encode("JPEG", noise(1)[0]), Image.fromarray(noise(2)[1]), noise(3)[2], RED):
            there = asdict(client.predict(image, alpha=0.05, top_k=3, explain=True))
            here = asdict(model.predict(image, alpha=0.05, top_k=3, explain=True))
            assert there.pop("id") != here.pop("id") == ""
            assert here == there


def test_a_bad_image_of_several_loses_nothing(model: isoserve.LocalModel, tmp_path: Path) -> None:
    several = [RED, b"not an image", tmp_path / "nowhere.png", b"", colour(0, 0, 255)]
    first, text, nowhere, empty, last = model.predict(several)
    assert (first.prediction.label, last.prediction.label) == ("red", "blue")
    assert (text.status, text.reason) == (415, "format_not_allowed")
    assert (nowhere.status, nowhere.reason) == (0, "unreadable")
    assert (empty.status, empty.reason) == (400, "empty")
    assert model.predict([]) == []


def test_a_single_bad_image_raises(model: isoserve.LocalModel, tmp_path: Path) -> None:
    with pytest.raises(isoserve.ImageRefused, match="415 format_not_allowed"):
        model.predict(b"not an image")
    with pytest.raises(FileNotFoundError):
        model.predict(tmp_path / "nowhere.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(encode("PNG", noise(1)[0])[:60])
    with pytest.raises(isoserve.ImageRefused, match="400 corrupt"), Image.open(cut) as opened:
        model.predict(opened)
    with pytest.raises(TypeError, match="a uint8 array, not int"):
        model.predict(5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (RED / 255, r"the array is float64 \[8, 8, 3\]; an image must be uint8"),
        (RED[0, 0], r"the array is uint8 \[3\]; an image must be \[H, W, 3\]"),
        (RED.transpose(2, 0, 1), r"the array is uint8 \[3, 8, 8\]"),
        (RED[:0], r"the array is uint8 \[0, 8, 3\]"),
    ],
)
def test_an_array_that_is_not_an_image(
    model: isoserve.LocalModel, array: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        model.predict(array)


def test_an_image_over_the_limits_is_refused_by_its_size(model: isoserve.LocalModel) -> None:
    with pytest.raises(isoserve.ImageRefused, match="413 too_many_pixels"):
        model.predict(Image.new("1", (5000, 5000)))


def test_alpha_is_the_files_own_unless_given(model: isoserve.LocalModel, model_file: Path) -> None:
    assert model.predict(RED).ood.alpha == model.card.calibration.alpha == 0.05
    assert isoserve.load(model_file, alpha=0.2).predict(RED).ood.alpha == 0.2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 1.0}, r"alpha is 1\.0; it must be between 0 and 1"),
        ({"slots": 0}, "slots is 0; it must be at least 1"),
    ],
)
def test_bad_options_of_load(model_file: Path, options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        isoserve.load(model_file, **options)


def test_bad_options_of_predict(model: isoserve.LocalModel) -> None:
    with pytest.raises(InputError, match="top_k is 0; it must be at least 1"):
        model.predict(RED, top_k=0)
    with pytest.raises(InputError, match=r"alpha is 0; it must be between 0 and 1"):
        model.predict(RED, alpha=0)


def test_a_file_that_cannot_serve_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"model\.onnx: ONNX Runtime refuses it"):
        isoserve.load(path)
    with pytest.raises(InputError, match="the file cannot be read: No such file"):
        isoserve.load(tmp_path / "none.onnx")


def test_threads_share_a_model(model_file: Path) -> None:
    model = isoserve.load(model_file, slots=2)
    images = list(noise(40))
    alone = [model.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model.predict, images)) == alone


def test_the_card_is_the_files(model: isoserve.LocalModel) -> None:
    assert model.card.name == TinyModel().name
    assert model.classes == ["red", "green", "blue"]
