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
from isoserve.models.image_files.cost import decode_cost, decode_memory
from isoserve.models.image_files.header import Header, read_header
from isoserve.models.preprocessing import decode_pixels

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
