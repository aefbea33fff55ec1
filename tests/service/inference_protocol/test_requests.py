"""The Open Inference Protocol's requests, read from bytes: what is taken, and what is refused how.

The fuzz tests ask of any input at all that it is read or refused with a 4xx, nothing else.
"""

from __future__ import annotations

import base64
import gzip
import struct
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoserve.models.card import InputSpec
from isoserve.service.errors import Problem
from isoserve.service.inference_protocol.compression import decompress
from isoserve.service.inference_protocol.requests import (
    InferenceRequest,
    RequestLimits,
    RequestReader,
    read_header_length,
)

OUTPUTS = ("probabilities", "p_value", "is_ood", "label")

READER = RequestReader(InputSpec(height=2, width=3), RequestLimits(4, 100_000), 0.05, OUTPUTS)
PIXELS = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)


def request(tensor: dict[str, object], **more: object) -> bytes:
    return orjson.dumps({"inputs": [{"name": "images", **tensor}], **more})


def pixels(shape: object = (2, 2, 3, 3), data: object = None, **more: object) -> bytes:
    return request(
        {
            "datatype": "UINT8",
            "shape": shape,
            "data": PIXELS.tolist() if data is None else data,
            **more,
        }
    )


def binary(tensor: dict[str, object], data: bytes, **more: object) -> InferenceRequest:
    declared = {"parameters": {"binary_data_size": len(data)}, **tensor}
    text = request(declared, **more)
    return READER.read(text + data, len(text))


def refused(body: bytes, header_length: int | None = None, status: int = 400) -> str:
    with pytest.raises(Problem) as caught:
        READER.read(body, header_length)
    assert caught.value.status == status
    return caught.value.detail


@pytest.mark.parametrize("data", [PIXELS.tolist(), PIXELS.ravel().tolist()])
def test_json_pixels_come_nested_or_flat(data: object) -> None:
    np.testing.assert_array_equal(READER.read(pixels(data=data), None).images, PIXELS)


def test_binary_pixels_follow_the_json() -> None:
    read = binary({"datatype": "UINT8", "shape": [2, 2, 3, 3]}, PIXELS.tobytes())
    np.testing.assert_array_equal(read.images, PIXELS)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_binary_files_follow_the_json_each_after_its_length(shape: list[int]) -> None:
    data = struct.pack("<I", 3) + b"one" + struct.pack("<I", 0)
    assert binary({"datatype": "BYTES", "shape": shape}, data).images == [b"one", b""]


def test_json_files_are_text_or_said_to_be_base64() -> None:
    tensor = {"datatype": "BYTES", "shape": [1], "data": ["GIF89a…"]}
    assert READER.read(request(tensor), None).images == ["GIF89a…".encode()]
    coded = base64.b64encode(b"\xff\xd8\x00").decode()
    tensor |= {"data": [coded], "parameters": {"content_type": "base64"}}
    assert READER.read(request(tensor), None).images == [b"\xff\xd8\x00"]
    assert "not base64" in refused(request(tensor | {"data": ["?"]}))


def test_outputs_are_all_unless_some_are_asked_for() -> None:
    assert [w.name for w in READER.read(pixels(), None).outputs] == [*OUTPUTS]
    body = orjson.loads(pixels())
    body["outputs"] = [{"name": "label"}, {"name": "p_value", "parameters": {"binary_data": True}}]
    wanted = READER.read(orjson.dumps(body), None).outputs
    assert [(w.name, w.binary) for w in wanted] == [("label", False), ("p_value", True)]
    body["parameters"] = {"binary_data_output": True}
    body["outputs"][1]["parameters"] = {"binary_data": False}
    wanted = READER.read(orjson.dumps(body), None).outputs
    assert [(w.name, w.binary) for w in wanted] == [("label", True), ("p_value", False)]


def test_id_and_alpha_are_read_and_unknown_parameters_passed_over() -> None:
    plain = READER.read(pixels(), None)
    assert (plain.id, plain.alpha) == (None, 0.05)
    body = orjson.loads(pixels()) | {"id": "a", "parameters": {"alpha": 0.2, "priority": 7}}
    read = READER.read(orjson.dumps(body), None)
    assert (read.id, read.alpha) == ("a", 0.2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"{}", "'inputs' must be a list"),
        (b'{"inputs": []}', "0 tensors"),
        (b'{"inputs": [1]}', "list of objects"),
        (b'{"inputs": [{}]}', "a 'name' and a 'datatype'"),
        (b"[" * 3000, "not JSON"),
        (pixels(shape=[2, -2, -3, 3]), "at least 0"),
        (pixels(shape=[True, 2, 3, 3]), "at least 0"),
        (pixels(shape=None), "at least 0"),
        (pixels(shape="2233"), "at least 0"),
        (pixels(shape=[1] * 9), "9 dimensions"),
        (pixels(shape=[2**63, 2**63, 2**63, 3]), "takes UINT8 [N, 2, 3, 3]"),
        (pixels(shape=[]), "takes UINT8 [N, 2, 3, 3]"),
        (pixels(shape=[0, 2, 3, 3], data=[]), "holds no image"),
        (pixels(shape=[1, 2, 3, 3]), "36 values of data; its shape says 18"),
        (pixels(data=np.moveaxis(PIXELS, 3, 1).tolist()), "not nested as its shape"),
        (pixels(data=[*range(35), 256]), "outside 0..255"),
        (pixels(data=[*range(35), -1]), "outside 0..255"),
        (pixels(data=[*range(35), 2**64 - 1]), "outside 0..255"),
        (pixels().replace(b"35]", b"1" * 30 + b"]"), "whole numbers"),
        (pixels(data=[*range(35), 1.0]), "whole numbers"),
        (pixels(data=[*range(35), True]), "whole numbers"),
        (pixels(data=[*range(35), "1"]), "whole numbers"),
        (pixels(data=[*range(35), [1]]), "whole numbers"),
        (pixels(data={}), "neither a list 'data'"),
        (pixels(datatype="FP32"), "datatype 'FP32' is not taken"),
        (pixels(name="pixels"), "it has 'images'"),
        (pixels(parameters={"shared_memory_region": "a"}), "not supported"),
        (pixels(parameters={"binary_data_size": 36}), "0 bytes follow"),
        (pixels(parameters={"binary_data_size": True}), "no whole number"),
        (pixels(parameters=[]), "'parameters' must be an object"),
        (request({"datatype": "BYTES", "shape": [1], "data": [1]}), "must be strings"),
        (request({"datatype": "BYTES", "shape": [2], "data": ["a"]}), "1 values"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(body: bytes, words: str) -> None:
    assert words in refused(body)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"id": 7}, "'id' must be a string"),
        ({"outputs": [{"name": "x"}]}, "no such output"),
        ({"outputs": [{"name": "label"}] * 2}, "twice"),
        ({"outputs": [{"name": "label"}] * 500}, "twice"),
        ({"outputs": [{"name": 1}]}, "a string"),
        ({"outputs": 3}, "list of objects"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 2}}]}, "not supported"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "true or false"),
        ({"parameters": {"alpha": 1}}, "'alpha'"),
        ({"parameters": {"alpha": "0.1"}}, "'alpha'"),
        ({"parameters": {"alpha": True}}, "'alpha'"),
        ({"parameters": {"binary_data_output": "yes"}}, "true or false"),
    ],
)
def test_a_wrong_option_is_refused_with_the_reason(more: dict[str, object], words: str) -> None:
    assert words in refused(orjson.dumps(orjson.loads(pixels()) | more))


def test_limits_are_a_413() -> None:
    refused(pixels(shape=[5, 2, 3, 3]), status=413)
    refused(b" " * 100_001, status=413)
    refused(b'{"inputs": [' + b"[]," * 20_000, status=413)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 of 2 elements"),
        (struct.pack("<I", 3) + b"one", "1 of 2 elements"),
        (struct.pack("<I", 2**32 - 1) + b"one", "element 0 goes beyond"),
        (struct.pack("<I", 0) * 3, "4 bytes follow"),
    ],
)
def test_binary_elements_must_fill_their_tensor(data: bytes, words: str) -> None:
    with pytest.raises(Problem, match=words):
        binary({"datatype": "BYTES", "shape": [2]}, data)


def test_data_in_json_and_in_binary_at_once_is_refused() -> None:
    tensor: dict[str, object] = {"datatype": "UINT8", "shape": [2, 2, 3, 3]}
    with pytest.raises(Problem, match="given twice"):
        binary(tensor | {"data": PIXELS.tolist()}, PIXELS.tobytes())
    assert len(binary(tensor | {"data": []}, PIXELS.tobytes()).images) == 2


def test_binary_data_of_another_size_than_said_is_refused() -> None:
    tensor = {"datatype": "UINT8", "shape": [2, 2, 3, 3]}
    for size in (0, 35, 37, -36, 2**63, 36.0, "36", None):
        text = request(tensor | {"parameters": {"binary_data_size": size}})
        refused(text + PIXELS.tobytes(), len(text))


@pytest.mark.parametrize("value", [b"", b"-1", b"0", b"11", b"1e1", b"9" * 400, b"\xb2", b" 5"])
def test_a_wrong_header_length_is_refused(value: bytes) -> None:
    with pytest.raises(Problem, match="Inference-Header-Content-Length"):
        read_header_length(value, 10)
    assert read_header_length(b"10", 10) == 10


def test_compressed_bodies_are_opened_up_to_the_limit() -> None:
    plain = b"pixels" * 100
    charged: list[int] = []
    assert decompress(gzip.compress(plain), b"GZIP", 600, charged.append) == plain
    assert decompress(zlib.compress(plain), b"deflate", 600, charged.append) == plain
    assert decompress(plain, b"", 1, charged.append) == plain
    for body, encoding, limit, status in (
        (gzip.compress(plain), b"gzip", 599, 413),
        (gzip.compress(bytes(10**8)), b"gzip", 600, 413),
        (gzip.compress(plain)[:-1], b"gzip", 600, 400),
        (gzip.compress(plain) * 2, b"gzip", 600, 400),
        (plain, b"gzip", 600, 400),
        (b"", b"gzip", 600, 400),
        (plain, b"br", 600, 415),
    ):
        with pytest.raises(Problem) as caught:
            decompress(body, encoding, limit, charged.append)
        assert caught.value.status == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda values: (
        st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values, max_size=4)
    ),
    max_leaves=12,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["alpha", "binary_data_size", "binary_data", "content_type"]), JSON
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("images") | JSON,
        "datatype": st.sampled_from(["UINT8", "BYTES"]) | JSON,
        "shape": st.lists(st.integers(-1, 4) | st.just(2**62), max_size=5) | JSON,
        "data": st.lists(st.integers(-1, 256) | st.text(max_size=3)) | JSON,
        "parameters": PARAMETERS | JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, min_size=1, max_size=2) | JSON},
    optional={
        "id": JSON,
        "parameters": PARAMETERS | JSON,
        "outputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from([*OUTPUTS]) | JSON}, optional={"parameters": PARAMETERS}
            )
        )
        | JSON,
    },
)


def read_or_refused(body: bytes, header_length: int | None) -> None:
    try:
        read = READER.read(body, header_length)
    except Problem as problem:
        status = problem.status
    else:
        status = 200
    assert status in (200, 400, 413)
    if status != 200:
        return
    assert 1 <= len(read.images) <= 4
    assert {wanted.name for wanted in read.outputs} <= set(OUTPUTS)
    for image in read.images:
        assert isinstance(image, bytes) or (image.shape, image.dtype) == ((2, 3, 3), np.uint8)


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.binary(max_size=80))
def test_any_json_is_read_or_refused(document: dict[str, object], data: bytes) -> None:
    text = orjson.dumps(document)
    read_or_refused(text + data, len(text))
    read_or_refused(text, None)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_read_or_refused(body: bytes, cut: int) -> None:
    read_or_refused(body, min(cut, len(body)))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["UINT8", "BYTES"]),
    st.lists(st.integers(0, 4), max_size=5),
    st.lists(st.binary(max_size=20), max_size=5),
    st.integers(-8, 8),
)
def test_any_binary_tensor_is_read_or_refused(
    datatype: str, shape: list[int], elements: list[bytes], off: int
) -> None:
    data = b"".join(struct.pack("<I", max(len(e) + off, 0)) + e for e in elements)
    declared = {
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": len(data)},
    }
    text = request(declared)
    read_or_refused(text + data, len(text))
