"""``/v2`` over a real socket, by the public Triton client and by hand."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from image_bytes import colour, encode
from protocol_error import error
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, reference, write_tiny_model
from tritonclient.utils import InferenceServerException

from isoserve.models.card import SCHEMA_1_OUTPUTS

OUTPUTS = (*SCHEMA_1_OUTPUTS, "is_ood", "label")
INFER = "/v2/models/tiny/infer"


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def client_of(server: RunningServer) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(server.url.removeprefix("http://"), concurrency=4)


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with client_of(server) as client:
        yield client


def pixels(images: np.ndarray, binary: bool = True) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", list(images.shape), "UINT8")
    return [tensor.set_data_from_numpy(images, binary_data=binary)]


def files(images: list[bytes]) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", [len(images)], "BYTES")
    return [tensor.set_data_from_numpy(np.array(images, dtype=np.object_))]


def check_result(result: triton.InferResult, images: np.ndarray, alpha: float = 0.05) -> None:
    expected = reference(images)
    for name in SCHEMA_1_OUTPUTS:
        np.testing.assert_allclose(result.as_numpy(name), expected[name], atol=2e-6, rtol=0)
    below = expected["p_value"].astype(np.float32) <= np.float32(alpha)
    np.testing.assert_array_equal(result.as_numpy("is_ood"), below)
    labels = [TinyModel().classes[i] for i in expected["probabilities"].argmax(axis=1)]
    assert [str(x, "utf-8") if isinstance(x, bytes) else x for x in result.as_numpy("label")] == (
        labels
    )


@pytest.mark.parametrize("n", [1, 5, 64])
def test_pixels_get_what_the_formulas_say(client: triton.InferenceServerClient, n: int) -> None:
    images = noise(n)
    check_result(client.infer("tiny", pixels(images)), images)
    check_result(client.infer("tiny", pixels(images, binary=False), model_version="1"), images)


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_come_as_binary_or_json(client: triton.InferenceServerClient, binary: bool) -> None:
    images = noise(3)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    check_result(client.infer("tiny", pixels(images), outputs=wanted), images)


def test_only_the_outputs_asked_for_come_and_binary_and_json_mix(
    client: triton.InferenceServerClient,
) -> None:
    wanted = [
        triton.InferRequestedOutput("label", binary_data=False),
        triton.InferRequestedOutput("p_value"),
    ]
    result = client.infer("tiny", pixels(noise(2)), outputs=wanted, request_id="r-1")
    answer = result.get_response()
    assert [output["name"] for output in answer["outputs"]] == ["label", "p_value"]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "1", "r-1")
    assert result.as_numpy("p_value").shape == (2,)
    assert result.as_numpy("probabilities") is None


def test_image_files_are_decoded_as_by_predict(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    rng = np.random.default_rng(4)
    photos = [rng.integers(0, 256, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
    images = [encode("PNG", photos[0]), encode("JPEG", photos[1]), encode("WEBP", photos[2])]
    result = client.infer("tiny", files(images))
    for row, image in enumerate(images):
        verdict = server.post("/v1/predict", content=image).json()
        assert result.as_numpy("label")[row] == verdict["prediction"]["label"].encode()
        assert result.as_numpy("p_value")[row] == np.float32(verdict["ood"]["p_value"])
        assert result.as_numpy("is_ood")[row] == verdict["ood"]["is_ood"]


def test_alpha_is_a_parameter(client: triton.InferenceServerClient) -> None:
    images = noise(20)
    strict = client.infer("tiny", pixels(images), parameters={"alpha": 0.999})
    check_result(strict, images, 0.999)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    images = noise(2)
    result = client.infer("tiny", pixels(images), request_compression_algorithm=algorithm)
    check_result(result, images)


def test_asynchronous_requests_are_answered_each_with_its_own(
    client: triton.InferenceServerClient,
) -> None:
    images = [noise(8)[i : i + 1] for i in range(8)]
    pending = [client.async_infer("tiny", pixels(image)) for image in images]
    for request, image in zip(pending, images, strict=True):
        check_result(request.get_result(), image)


def test_a_lone_json_request_by_hand(server: RunningServer) -> None:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3]}
    body = {"inputs": [{**tensor, "data": noise(1).tolist()}], "outputs": [{"name": "label"}]}
    response = server.post(INFER, content=orjson.dumps(body))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "tiny",
        "model_version": "1",
        "outputs": [
            {
                "name": "label",
                "datatype": "BYTES",
                "shape": [1],
                "data": response.json()["outputs"][0]["data"],
            }
        ],
    }
    assert response.json()["outputs"][0]["data"][0] in TinyModel().classes


def test_metadata_describes_what_is_taken_and_given(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("nope")
    server = client.get_server_metadata()
    assert server["name"] == "isoserve"
    assert sorted(server["extensions"]) == [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
    ]
    model = client.get_model_metadata("tiny")
    assert model == client.get_model_metadata("tiny", "1")
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}]
    result = client.infer("tiny", pixels(noise(2)))
    for output in model["outputs"]:
        given = result.get_output(output["name"])
        assert given["datatype"] == output["datatype"]
        assert given["shape"] == [2, *output["shape"][1:]]
    assert client.get_model_config("tiny")["max_batch_size"] == 64
    assert client.get_model_repository_index() == [
        {"name": "tiny", "version": "1", "state": "READY", "reason": ""}
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/tiny/versions/2", 404),
        ("GET", "/v2/models/tiny/versions/x/ready", 400),
        ("GET", "/v2/models/tiny/versions/%C2%B2/ready", 400),
        ("GET", f"/v2/models/tiny/versions/{'9' * 5000}", 400),
        ("GET", "/v2/models/%00%0A%22", 404),
        ("POST", "/v2/models/nope/infer", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
        ("POST", "/v2/repository/models/tiny/load", 403),
        ("POST", "/v2/repository/models/tiny/unload", 403),
        ("POST", "/v2/repository/models/tiny/versions/1/unload", 403),
    ],
)
def test_every_error_has_the_protocols_form(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    response = server.request(method, path)
    assert error(response, status)
    if status == 405:
        assert response.headers["allow"] in ("GET, HEAD", "POST")


def test_a_bad_image_is_named_and_the_next_request_is_served(
    server: RunningServer, client: triton.InferenceServerClient
) -> None:
    with pytest.raises(InferenceServerException, match="image 1: ") as caught:
        client.infer("tiny", files([colour(255, 0, 0), b"no image"]))
    assert caught.value.status() == "415"
    broken = encode("PNG", np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))[
        :3000
    ]
    with pytest.raises(InferenceServerException, match="image 0: ") as caught:
        client.infer("tiny", files([broken]))
    assert caught.value.status() == "400"
    before = refusals(server)
    with pytest.raises(InferenceServerException):
        client.infer("tiny", files([b""]))
    assert refusals(server) == before + 1
    check_result(client.infer("tiny", pixels(noise(1))), noise(1))


def refusals(server: RunningServer) -> float:
    found = re.findall(r"isoserve_invalid_images_total\{.*?\} (\S+)", server.get("/metrics").text)
    return sum(map(float, found))


def test_a_wrong_shape_tells_the_right_one(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"takes UINT8 \[N, 8, 8, 3\]"):
        client.infer("tiny", pixels(np.zeros((1, 3, 8, 8), dtype=np.uint8)))


def test_more_images_or_bytes_than_allowed_are_a_413(server: RunningServer) -> None:
    images = np.zeros((65, 8, 8, 3), dtype=np.uint8)
    with (
        client_of(server) as client,
        pytest.raises(InferenceServerException, match="at most 64 images") as caught,
    ):
        client.infer("tiny", pixels(images))
    assert caught.value.status() == "413"
    bomb = gzip.compress(bytes(110 * 2**20), compresslevel=1)
    error(server.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"}), 413)


def test_a_wrong_header_length_or_encoding_is_refused(server: RunningServer) -> None:
    for value in ("x", "-1", "99"):
        headers = {"Inference-Header-Content-Length": value}
        assert "Inference-Header" in error(server.post(INFER, content=b"{}", headers=headers), 400)
    headers = {"Content-Encoding": "br"}
    assert "gzip" in error(server.post(INFER, content=b"{}", headers=headers), 415)


def test_models_are_loaded_and_unloaded_where_that_is_enabled(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server = start_server(tmp_path, "--management", "--watch-seconds", "60")
    with client_of(server) as client:
        client.unload_model("m")
        assert not client.is_model_ready("m")
        (version,) = client.get_model_repository_index()
        assert (version["state"], version["reason"]) == ("UNAVAILABLE", "unloaded")
        with pytest.raises(InferenceServerException, match="no version") as caught:
            client.infer("m", pixels(noise(1)))
        assert caught.value.status() == "503"
        client.load_model("m")
        check_result(client.infer("m", pixels(noise(1))), noise(1))
        write_tiny_model(tmp_path / "m" / "2" / "model.onnx")
        client.load_model("m")
        assert client.is_model_ready("m", "2")
        with pytest.raises(InferenceServerException, match="no model is called") as caught:
            client.load_model("nope")
        assert caught.value.status() == "404"
        with pytest.raises(InferenceServerException, match="'config' is not supported"):
            client.load_model("m", config="{}")
        (tmp_path / "bad" / "1").mkdir(parents=True)
        (tmp_path / "bad" / "1" / "model.onnx").write_bytes(b"junk")
        with pytest.raises(InferenceServerException, match="version 1: ONNX Runtime refuses it"):
            client.load_model("bad")
        ready = server.post("/v2/repository/index", content=b'{"ready": true}').json()
        assert {version["state"] for version in ready} == {"READY"}
        assert [version["name"] for version in ready] == ["m"]


def test_a_body_over_the_limit_is_told_so_while_it_is_still_sent(server: RunningServer) -> None:
    response = server.post(INFER, content=bytes(101 * 2**20))
    assert "over the limit" in error(response, 413)
    assert response.headers["connection"] == "close"
