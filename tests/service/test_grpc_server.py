"""The Open Inference Protocol over gRPC, by the public Triton client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from image_bytes import colour
from ports import free_port
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, reference, write_tiny_model
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from isoserve.models.card import SCHEMA_1_OUTPUTS
from isoserve.service.inference_protocol.messages import MESSAGES, SERVICE

TOKEN = "a-token-of-twenty-two!"


@pytest.fixture(scope="module")
def both(
    start_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunningServer, str]:
    """A server of both protocols, and where it answers gRPC."""
    root = tmp_path_factory.mktemp("repository")
    write_tiny_model(root / "tiny" / "1" / "model.onnx", TinyModel())
    port = free_port()
    return start_server(root, "--grpc-port", str(port), "--management"), f"127.0.0.1:{port}"


@pytest.fixture
def client(both: tuple[RunningServer, str]) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(both[1]) as client:
        yield client


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def pixels(images: np.ndarray) -> list[triton.InferInput]:
    return [triton.InferInput("images", list(images.shape), "UINT8").set_data_from_numpy(images)]


def files(images: list[bytes]) -> list[triton.InferInput]:
    tensor = triton.InferInput("images", [len(images)], "BYTES")
    return [tensor.set_data_from_numpy(np.array(images, dtype=np.object_))]


def fields(descriptor: Any) -> dict[str, tuple[object, ...]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type and field.message_type.full_name,
            field.containing_oneof and field.containing_oneof.name,
        )
        for field in descriptor.fields
    }


def test_the_messages_are_those_of_the_public_client() -> None:
    for name, message in MESSAGES.items():
        public = service_pb2
        for part in name.split("."):
            public = getattr(public, part)
        assert fields(message.DESCRIPTOR) == fields(public.DESCRIPTOR), name
    assert service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name == SERVICE


@pytest.mark.parametrize("n", [1, 64])
def test_pixels_get_what_the_formulas_say(client: triton.InferenceServerClient, n: int) -> None:
    images = noise(n)
    expected = reference(images)
    result = client.infer("tiny", pixels(images), request_id="r-1", parameters={"alpha": 0.3})
    for name in SCHEMA_1_OUTPUTS:
        np.testing.assert_allclose(result.as_numpy(name), expected[name], atol=2e-6, rtol=0)
    below = expected["p_value"].astype(np.float32) <= np.float32(0.3)
    np.testing.assert_array_equal(result.as_numpy("is_ood"), below)
    labels = [TinyModel().classes[i].encode() for i in expected["probabilities"].argmax(axis=1)]
    assert result.as_numpy("label").tolist() == labels
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", "1", "r-1")


def test_files_are_decoded_and_only_the_outputs_asked_for_come(
    client: triton.InferenceServerClient,
) -> None:
    wanted = [triton.InferRequestedOutput("label")]
    images = [colour(255, 0, 0), colour(0, 0, 255)]
    result = client.infer("tiny", files(images), outputs=wanted, model_version="1")
    assert result.as_numpy("label").tolist() == [b"red", b"blue"]
    assert result.as_numpy("p_value") is None


@pytest.mark.parametrize(
    ("datatype", "shape", "contents"),
    [
        ("UINT8", [1, 8, 8, 3], {"uint_contents": [255, 0, 0] * 64}),
        ("BYTES", [1], {"bytes_contents": [colour(255, 0, 0)]}),
    ],
)
def test_typed_contents_are_read(
    both: tuple[RunningServer, str], datatype: str, shape: list[int], contents: dict[str, Any]
) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    tensor = request.inputs.add(name="images", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(tensor.contents, name).extend(values)
    request.outputs.add(name="label")
    assert b"red" in call(both[1], request)


def call(address: str, request: Any, name: str = "ModelInfer") -> bytes:
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary(f"/{SERVICE}/{name}")(
            request if isinstance(request, bytes) else request.SerializeToString(), timeout=30
        )
        return answer


def test_metadata_and_readiness(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("nope")
    server = client.get_server_metadata()
    assert (server.name, [*server.extensions]) == (
        "isoserve",
        ["binary_tensor_data", "model_repository"],
    )
    metadata = client.get_model_metadata("tiny")
    (images,) = metadata.inputs
    assert (images.name, images.datatype, list(images.shape)) == ("images", "UINT8", [-1, 8, 8, 3])
    assert {output.name for output in metadata.outputs} == {*SCHEMA_1_OUTPUTS, "is_ood", "label"}


def test_models_are_loaded_and_unloaded(client: triton.InferenceServerClient) -> None:
    client.unload_model("tiny")
    assert not client.is_model_ready("tiny")
    (version,) = client.get_model_repository_index().models
    assert (version.name, version.version, version.state) == ("tiny", "1", "UNAVAILABLE")
    with pytest.raises(InferenceServerException, match="no version") as caught:
        client.infer("tiny", pixels(noise(1)))
    assert "UNAVAILABLE" in caught.value.status()
    client.load_model("tiny")
    assert client.is_model_ready("tiny")
    with pytest.raises(InferenceServerException, match="'config' is not supported"):
        client.load_model("tiny", config="{}")


@pytest.mark.parametrize(
    ("inputs", "options", "words", "status"),
    [
        (pixels(np.zeros((1, 3, 8, 8), np.uint8)), {}, "takes UINT8", "INVALID_ARGUMENT"),
        (pixels(np.zeros((65, 8, 8, 3), np.uint8)), {}, "at most 64", "INVALID_ARGUMENT"),
        (files([colour(1, 2, 3), b"none"]), {}, "image 1: ", "INVALID_ARGUMENT"),
        (pixels(noise(1)) * 2, {}, "2 inputs", "INVALID_ARGUMENT"),
        (pixels(noise(1)), {"model_version": "7"}, "version 7", "NOT_FOUND"),
        (pixels(noise(1)), {"model_version": "x"}, "whole number", "INVALID_ARGUMENT"),
        (pixels(noise(1)), {"parameters": {"alpha": 2.0}}, "'alpha'", "INVALID_ARGUMENT"),
        (
            pixels(noise(1)),
            {"outputs": [triton.InferRequestedOutput("x")]},
            "no such output",
            "INVALID_ARGUMENT",
        ),
        (
            pixels(noise(1)),
            {"outputs": [triton.InferRequestedOutput("label", class_count=2)]},
            "not supported",
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_what_is_wrong_is_told_and_the_next_request_is_served(
    client: triton.InferenceServerClient,
    inputs: list[triton.InferInput],
    options: dict[str, Any],
    words: str,
    status: str,
) -> None:
    with pytest.raises(InferenceServerException, match=words) as caught:
        client.infer("tiny", inputs, **options)
    assert caught.value.status() == f"StatusCode.{status}"
    client.infer("tiny", pixels(noise(1)))


def test_bytes_that_are_no_message_are_refused(both: tuple[RunningServer, str]) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="tiny")
    tensor = request.inputs.add(name="images", datatype="UINT8", shape=[1, 8, 8, 3])
    tensor.contents.uint_contents.extend([256] * 192)
    with pytest.raises(grpc.RpcError) as caught:
        call(both[1], request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError):
        call(both[1], b"\xff" * 50)
    assert both[0].get("/healthz/ready").status_code == 200


def test_calls_are_counted_beside_http(both: tuple[RunningServer, str]) -> None:
    request = MESSAGES["ServerLiveRequest"]()
    call(both[1], request, "ServerLive")
    assert (
        'isoserve_request_duration_seconds_count{route="grpc ServerLive",status="200"}'
        in both[0].get("/metrics").text
    )


def test_a_token_is_wanted_where_http_wants_one(start_server: StartServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "repository" / "tiny" / "1" / "model.onnx")
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    port = free_port()
    flags = ("--grpc-port", str(port), "--token-file", str(tokens))
    server = start_server(tmp_path / "repository", *flags)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        with pytest.raises(InferenceServerException, match="Bearer TOKEN") as caught:
            client.infer("tiny", pixels(noise(1)))
        assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        headers = {"authorization": f"Bearer {TOKEN}"}
        client.infer("tiny", pixels(noise(1)), headers=headers)
    refused = server.get("/v2/models/tiny")
    assert (refused.status_code, [*refused.json()]) == (401, ["error"])
    assert server.stop() == 0
