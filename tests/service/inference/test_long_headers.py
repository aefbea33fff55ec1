"""Headers of thousands of parts are not read on the event loop, but where the image is decoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from image_bytes import encode
from PIL import Image
from running_server import RunningServer

from isoserve.models.card import InputSpec
from isoserve.models.image_files.header import Header
from isoserve.service.batching.image_cost import UNKNOWN, cost_of
from isoserve.service.inference.images import ImageLimits, InvalidImage, check_header, decode

LIMITS = ImageLimits()
SPEC = InputSpec(height=8, width=8)
PICTURE = Image.new("RGB", (60, 40), (200, 30, 90))


def long_jpeg(segments: int = 9_900) -> bytes:
    body = encode("JPEG", PICTURE)
    return body[:2] + b"\xff\xe1\0\3x" * segments + body[2:]


def long_tiff(entries: int = 9_900) -> bytes:
    """Entries of no kind behind those of the image."""
    body = encode("TIFF", PICTURE)
    (start,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, start)
    own = body[start + 2 : start + 2 + 12 * count]
    more = b"".join(struct.pack("<HHII", 60_000, 3, 1, index) for index in range(entries))
    directory = struct.pack("<H", count + entries) + own + more + bytes(4)
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory


def long_avif(boxes: int = 4_000) -> bytes:
    return encode("AVIF", PICTURE) + struct.pack(">I4s", 8, b"free") * boxes


LONG = {"JPEG": long_jpeg(), "TIFF": long_tiff(), "AVIF": long_avif()}


@pytest.mark.parametrize("kind", LONG)
def test_a_long_header_is_left_to_the_decoding(kind: str) -> None:
    header = check_header(LONG[kind], LIMITS)
    assert header == Header(kind, 0, 0, len(LONG[kind]))  # type: ignore[arg-type]
    assert cost_of(header, SPEC) == UNKNOWN
    short = decode(encode(kind, PICTURE), SPEC, LIMITS)
    np.testing.assert_array_equal(decode(LONG[kind], SPEC, LIMITS), short)


@pytest.mark.parametrize("kind", LONG)
def test_limits_hold_for_it_all_the_same(kind: str) -> None:
    with pytest.raises(InvalidImage, match="60 x 40 pixels, 2400 in all"):
        decode(LONG[kind], SPEC, ImageLimits(max_pixels=2_000, max_jpeg_pixels=1))
    with pytest.raises(InvalidImage, match=f"{kind} is not accepted here"):
        decode(LONG[kind], SPEC, ImageLimits(formats=("PNG",)))


def test_an_ordinary_header_is_read_at_once() -> None:
    for kind in LONG:
        assert check_header(encode(kind, PICTURE), LIMITS)[1:3] == (60, 40)
    assert check_header(long_jpeg(200), LIMITS)[1:3] == (60, 40)


@pytest.mark.parametrize("kind", LONG)
def test_they_are_served(server: RunningServer, kind: str) -> None:
    assert server.post("/v1/predict", content=LONG[kind]).status_code == 200


def test_one_without_an_image_is_refused(server: RunningServer) -> None:
    body = long_jpeg()
    frame = body.index(b"\xff\xc0")
    empty = body[: frame + 5] + bytes(4) + body[frame + 9 :]
    answer = server.post("/v1/predict", content=empty)
    assert (answer.status_code, answer.json()["reason"]) == (400, "corrupt")
