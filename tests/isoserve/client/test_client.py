"""The Python client against the real server, and against servers that answer badly."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from image_bytes import colour
from PIL import Image
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

import isoserve
from isoserve import AsyncClient, Client, ImageRefused, Problem, RequestRefused, Verdict
from isoserve.client.requests import PredictOptions
from isoserve.client.uploads import chunks, image_bytes
from isoserve.service.http import schemas

RED, GRAY = colour(255, 0, 0), colour(128, 128, 128)


def test_the_answer_is_the_servers_json_typed_and_frozen(server: RunningServer) -> None:
    document = server.post("/v1/predict?top_k=2", content=RED).json()
    with Client(server.url) as client:
        verdict = client.predict(RED, top_k=2)
    read = dataclasses.asdict(verdict)
    assert read.pop("explanation") is None
    assert {**read, "id": "", "top_k": list(read["top_k"])} == {**document, "id": ""}
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.ood.is_ood = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["Prediction", "OOD", "Explanation", "Verdict", "Comparison", "ModelVersion", "ModelInfo"],
)
def test_the_types_have_the_members_of_the_servers_schemas(name: str) -> None:
    documents = {
        "Comparison": "ComparisonDocument",
        "ModelVersion": "VersionDocument",
        "ModelInfo": "ModelDocument",
    }
    schema = getattr(schemas, documents.get(name, name)).model_fields
    members = {field.name for field in dataclasses.fields(getattr(isoserve, name))}
    assert members == set(schema)  # those with a default come last


def test_a_path_bytes_a_file_and_a_pil_image_get_the_same_verdict(
    server: RunningServer, tmp_path: Path
) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(RED)
    with Client(server.url) as client, path.open("rb") as file, Image.open(path) as image:
        verdicts = [
            dataclasses.replace(client.predict(source), id="")
            for source in (path, str(path), RED, file, io.BytesIO(RED), image)
        ]
    assert verdicts == verdicts[:1] * 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
def test_a_pil_image_of_any_mode_is_served(server: RunningServer, mode: str) -> None:
    image = Image.new("RGB", (9, 9), (0, 255, 0))
    with Client(server.url) as client:
        verdict = client.predict(image.convert("RGB" if mode == "LA" else mode))
    if mode in ("P", "RGB", "RGBA", "CMYK", "YCbCr"):
        assert verdict.prediction.label == "green"


def test_a_pil_image_is_sent_upright_and_without_loss() -> None:
    wide = Image.effect_noise((24, 8), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    file = io.BytesIO()
    wide.save(file, "PNG", exif=exif)
    sent = Image.open(io.BytesIO(image_bytes(Image.open(file))))
    assert sent.tobytes() == wide.transpose(Image.Transpose.ROTATE_270).tobytes()
    assert not sent.getexif()


def test_groups_are_bounded_in_images_and_bytes_and_lose_nothing() -> None:
    bodies = [b"x" * size for size in (1, 5, 9, 1, 1, 30, 1, 1, 1, 1)]
    groups = [*chunks(iter(bodies), most=3, most_bytes=10)]
    assert [body for group in groups for body in group] == bodies
    assert all(len(group) <= 3 for group in groups)
    assert all(sum(map(len, group)) <= 10 for group in groups if len(group) > 1)
    assert [*chunks([], 3, 10)] == []


def test_a_batch_of_any_size_comes_back_in_order_with_its_problems(server: RunningServer) -> None:
    images = [RED, b"not an image", colour(0, 255, 0)] * 50
    with Client(server.url) as client:
        results = client.predict_batch(iter(images), model="tiny", version=1, alpha=0.2)
    assert len(results) == 150
    for place, result in enumerate(results):
        if place % 3 == 1:
            assert isinstance(result, Problem)
            assert result.status == 415
        else:
            assert isinstance(result, Verdict)
            assert result.prediction.label == ("red" if place % 3 == 0 else "green")
            assert result.ood.alpha == 0.2


def test_the_async_client_gives_the_same_answers(server: RunningServer) -> None:
    async def ask() -> tuple[Verdict, list[Verdict | Problem], str]:
        async with AsyncClient(server.url) as client:
            await asyncio.gather(*(client.predict(RED) for _ in range(8)))
            batch = await client.predict_batch([RED, b"junk"] * 20)
            models = await client.models()
            return await client.predict(RED), batch, models[0].name

    verdict, batch, name = asyncio.run(ask())
    with Client(server.url) as client:
        expected = client.predict(RED)
    assert dataclasses.replace(verdict, id="") == dataclasses.replace(expected, id="")
    assert [type(result) for result in batch] == [Verdict, Problem] * 20
    assert name == "tiny"


def test_an_explanation_is_the_picture_that_the_model_saw_and_all_distances(
    server: RunningServer,
) -> None:
    async def ask() -> Verdict:
        async with AsyncClient(server.url) as client:
            return await client.predict(colour(255, 0, 0, size=30), explain=True)

    with Client(server.url) as client:
        (verdict,) = client.predict_batch([colour(255, 0, 0, size=30)], explain=True)
    assert isinstance(verdict, Verdict)
    assert verdict.explanation is not None
    seen = Image.open(io.BytesIO(verdict.explanation.seen))
    assert (seen.size, seen.getpixel((3, 3))) == ((8, 8), (255, 0, 0))
    assert verdict.explanation.distances == pytest.approx((0, 2**0.5, 2**0.5), abs=1e-5)
    assert asyncio.run(ask()).explanation == verdict.explanation


def test_an_option_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with Client("http://server") as client:
        with pytest.raises(TypeError, match="no option 'topk'; there are model, version, top_k"):
            client.predict(RED, topk=2)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no option 'topk'"):
            client.predict_batch([RED], topk=2)  # type: ignore[call-arg]


def test_the_options_are_the_query_parameters_of_the_predict_route(server: RunningServer) -> None:
    route = server.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]
    assert set(PredictOptions.__annotations__) == {each["name"] for each in route["parameters"]}


def test_models_lists_versions_and_cards(server: RunningServer) -> None:
    with Client(server.url + "/") as client:
        (model,) = client.models()
    assert (model.name, model.serving) == ("tiny", 1)
    (version,) = model.versions
    assert version.state == "serving"
    assert version.card is not None
    assert version.card.classes == ["red", "green", "blue"]
    assert version.since.tzinfo is not None


def test_a_refusal_carries_the_servers_words_and_the_request_id(server: RunningServer) -> None:
    with Client(server.url) as client:
        with pytest.raises(ImageRefused) as caught:
            client.predict(b"no image at all")
        with pytest.raises(RequestRefused) as missing:
            client.predict(RED, model="nope")
    assert caught.value.problem.status == 415
    assert caught.value.problem.id in str(caught.value)
    assert len(caught.value.problem.id) >= 16
    assert missing.value.problem.reason == "no_such_model"
    assert not isinstance(missing.value, ImageRefused)


def test_a_server_with_tokens_answers_who_has_one(
    start_server: StartServer, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "tokens").write_text("secret-of-some-length\n")
    server = start_server(model, "--token-file", str(tmp_path / "tokens"))
    with Client(server.url) as stranger, pytest.raises(RequestRefused) as caught:
        stranger.predict(RED)
    assert caught.value.problem.status == 401
    with Client(server.url, token="secret-of-some-length") as friend:
        assert friend.predict(RED).prediction.label == "red"


def test_what_is_no_image_here_is_a_type_error_that_says_what_would_be() -> None:
    with Client("http://server") as client:
        for source in (7, io.StringIO("text")):
            with pytest.raises(TypeError, match=r"path|'rb'"):
                client.predict(source)  # type: ignore[arg-type]


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    for package in ("isoserve", "models"):
        assert files(package).joinpath("py.typed").is_file()


def test_importing_the_package_loads_nothing_of_the_client() -> None:
    program = (
        "import sys, isoserve; print('httpx' in sys.modules);"
        "from isoserve import Client; print('PIL' in sys.modules, 'torch' in sys.modules,"
        "'onnxruntime' in sys.modules, 'service' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.split() == ["False", "False", "False", "False", "False"]
    with pytest.raises(AttributeError):
        isoserve.Nothing  # noqa: B018
