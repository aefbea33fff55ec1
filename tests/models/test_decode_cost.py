"""The cost of decoding, told from a header: in the right order, and of the right size."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import pytest
from image_bytes import encode, noise
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError
from isoserve.models.image_files.cost import decode_cost, decode_memory
from isoserve.models.image_files.header import Header, read_header
from isoserve.models.preprocessing import decode_pixels
from isoserve.service.inference.images import ImageLimits, InvalidImage, check_header

SPEC = InputSpec(height=224, width=224)
SMALL = InputSpec(height=32, width=32)


def photo(width: int, height: int) -> Image.Image:
    """Smooth with a little noise, as a camera's."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 31 + c) + np.cos(y / (27 + 5 * c)) for c in range(3)], -1)
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(120 + 50 * waves + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {"compress_level": 1}),
        ("WEBP", {"method": 0}),
        ("WEBP", {"lossless": True, "method": 0}),
        ("GIF", {}),
        ("BMP", {}),
    ],
)
def test_it_is_what_decoding_takes_within_a_factor(kind: str, options: dict[str, Any]) -> None:
    body = encode(kind, photo(1200, 900), **options)
    for spec in (SPEC, SMALL):
        seconds = []
        for _ in range(3):
            started = time.thread_time()
            decode_pixels(body, spec)
            seconds.append(time.thread_time() - started)
        assert 0.15 < decode_cost(read_header(body), spec) / min(seconds) < 6


def test_a_few_bytes_that_ask_for_much_cost_much() -> None:
    tiny = encode("WEBP", Image.new("RGB", (4470, 4470)), lossless=True)
    ordinary = encode("JPEG", photo(1000, 750))
    assert len(tiny) < 1000
    assert decode_cost(read_header(tiny)) > 0.5
    assert decode_cost(read_header(ordinary)) < 0.02
    run_length = Header("BMP", 1000, 1000, 169_000, "run-length")
    assert decode_cost(run_length) > 0.06


def test_a_jpeg_costs_less_for_a_smaller_input_and_more_when_progressive() -> None:
    plain = Header("JPEG", 4000, 3000, 3_000_000)
    assert decode_cost(plain, SMALL) <= decode_cost(plain, SPEC) < decode_cost(plain)
    assert decode_cost(plain._replace(coding="progressive"), SPEC) > 2 * decode_cost(plain, SPEC)
    assert decode_cost(plain._replace(coding="arithmetic"), SPEC) > 5 * decode_cost(plain, SPEC)


@pytest.mark.parametrize(
    ("subsampling", "samples"), [("4:4:4", 3.0), ("4:2:2", 2.0), ("4:2:0", 1.5)]
)
def test_a_progressive_jpeg_is_held_whole(subsampling: str, samples: float) -> None:
    plain = read_header(encode("JPEG", noise(64, 48), subsampling=subsampling))
    assert (plain.coding, plain.coefficients) == ("", 0)
    body = encode("JPEG", noise(64, 48), subsampling=subsampling, progressive=True)
    header = read_header(body)
    assert (header.coding, header.coefficients) == ("progressive", samples * 64 * 48)
    assert decode_memory(header, SMALL) > decode_memory(plain, SMALL)


def test_one_component_a_scan_is_held_whole_too() -> None:
    body = encode("JPEG", Image.new("RGB", (1200, 900)), subsampling="4:4:4")
    scan = body.index(b"\xff\xda")
    first = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 0, 63, 0)
    assert read_header(body[:scan] + first + body[scan + 14 :]).coefficients == 3 * 1200 * 900


@pytest.mark.parametrize(
    ("kind", "mode", "options", "bytes_a_pixel"),
    [
        ("AVIF", "L", {"subsampling": "4:0:0"}, 1 + 2 * 1),
        ("AVIF", "RGB", {"subsampling": "4:2:0"}, 1.5 + 2 * 3),
        ("AVIF", "RGB", {"subsampling": "4:2:2"}, 2 + 2 * 3),
        ("AVIF", "RGB", {"subsampling": "4:4:4"}, 3 + 2 * 3),
        ("AVIF", "RGBA", {"subsampling": "4:4:4"}, 3 + 1 + 2 * 4),
        ("HEIF", "L", {}, 1 + 1),
        ("HEIF", "RGB", {"chroma": 420}, 1.5 + 3),
        ("HEIF", "RGB", {"chroma": 444}, 3 + 3 + 3),
        ("HEIF", "RGBA", {"chroma": 420}, 2.5 + 4),
        ("HEIF", "I;16", {}, 2 + 2),
    ],
)
def test_the_planes_of_a_video_codec_are_told_by_its_own_header(
    kind: str, mode: str, options: dict[str, Any], bytes_a_pixel: float
) -> None:
    header = read_header(encode(kind, Image.new(mode, (320, 240)), **options))
    assert header.decoding_bytes == bytes_a_pixel * header.width * header.height


def test_a_heif_that_is_larger_than_its_boxes_say() -> None:
    body = encode("HEIF", Image.new("RGB", (640, 480)))
    size = struct.pack(">II", 640, 480)
    assert body.count(size) == 1
    with pytest.raises(ImageFileError, match="disagree on its size"):
        read_header(body.replace(size, struct.pack(">II", 64, 48)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_whose_tile_is_larger_than_its_image(order: str) -> None:
    def tiff(tile: int) -> bytes:
        tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1)]
        tags += [(322, tile), (323, tile), (324, 8), (325, 0)]
        entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
        head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
        return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)

    assert read_header(tiff(64)).decoding_bytes == 64 * 64
    with pytest.raises(InvalidImage, match=r"64 x 64 TIFF would take 403 MB to decode, over 130"):
        check_header(tiff(20_000), ImageLimits())


def test_colour_of_sixteen_bits_is_read_twice() -> None:
    gray = Header("PNG", 1000, 1000)
    body = encode("PNG", Image.new("RGB", (40, 30)))
    assert read_header(body).decoding_bytes == 0
    deep = body[:24] + b"\x10" + body[25:]
    assert read_header(deep).decoding_bytes == 4 * 40 * 30
    assert decode_memory(gray._replace(format="WEBP")) - decode_memory(gray) == 8_000_000
