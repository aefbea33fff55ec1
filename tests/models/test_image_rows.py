"""Large images read strip by strip come out as Pillow makes them of the whole.

To the bit where Pillow resizes the strips, and next to that where cykooz-resizer does.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_bytes import chunk, encode, opened, png_header, png_of
from PIL import Image

from isoserve.models import resampling
from isoserve.models.card import InputSpec
from isoserve.models.image_rows import STRIP_PIXELS, rows_of_image
from isoserve.models.preprocessing import decode_pixels, to_pixels

WIDTH, HEIGHT = 701, 803
SPEC = InputSpec(height=48, width=64, crop=0.875)


def picture(mode: str) -> Image.Image:
    """Of waves and noise, all of its bands different."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / (23 + 9 * c)) + np.cos(y / (31 - 3 * c)) for c in range(4)]
    noise = np.random.default_rng(0).normal(0, 9, (HEIGHT, WIDTH, 4))
    values = np.clip(120 + 55 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray((values[..., 0].astype(np.uint16) << 8) + values[..., 1])
    if mode == "CMYK":
        return Image.fromarray(values, "CMYK")
    return Image.fromarray(values).convert(mode)


def by_pillow(image: Image.Image) -> np.ndarray[Any, Any]:
    """The whole image converted and resized by Pillow alone."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    transparent = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    image = image.convert("RGBA" if transparent else "RGB")
    width = SPEC.crop * WIDTH
    height = SPEC.crop * WIDTH * SPEC.height / SPEC.width
    left, top = (WIDTH - width) / 2, (HEIGHT - height) / 2
    box = (left, top, left + width, top + height)
    image = image.resize((SPEC.width, SPEC.height), Image.Resampling.BICUBIC, box)
    if transparent:
        canvas = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(canvas, image).convert("RGB")
    return np.asarray(image)


@pytest.fixture(params=["vector instructions", "Pillow"], autouse=True)
def resizer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What resizes."""
    name: str = request.param
    if name == "Pillow":
        monkeypatch.setattr(resampling, "simd", None)
    else:
        assert resampling.simd is not None
    return name


def assert_same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], resizer: str) -> None:
    """To the bit; with weights rounded elsewhere, up to a level in few values."""
    apart = np.abs(found.astype(int) - expected.astype(int))
    if resizer == "Pillow":
        assert apart.max() == 0
    else:
        assert apart.max() <= 2
        assert apart.mean() < 0.01


FILES = [
    ("PNG", "1", {}),
    ("PNG", "L", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {}),
    ("PNG", "P", {"transparency": 7}),
    ("PNG", "RGB", {"transparency": (120, 120, 120)}),
    ("PNG", "RGBA", {}),
    ("PNG", "I;16", {}),
    ("GIF", "P", {}),
    ("BMP", "L", {}),
    ("TIFF", "CMYK", {"compression": "tiff_lzw"}),
    ("TIFF", "I;16", {"compression": "tiff_adobe_deflate"}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("AVIF", "L", {"speed": 10}),
    ("AVIF", "RGB", {"speed": 10}),
    ("AVIF", "RGBA", {"speed": 10}),
    ("HEIF", "RGB", {}),
    ("HEIF", "RGBA", {}),
]


@pytest.mark.parametrize(("kind", "mode", "options"), FILES)
def test_files_come_out_as_pillow_makes_them_of_the_whole(
    kind: str, mode: str, options: dict[str, Any], resizer: str
) -> None:
    assert WIDTH * HEIGHT > 2 * STRIP_PIXELS
    body = encode(kind, picture(mode), **options)
    assert_same(decode_pixels(body, SPEC), by_pillow(opened(body)), resizer)


def test_of_an_animated_webp_the_first_frame_is_read(resizer: str) -> None:
    frames = [picture("RGBA"), Image.new("RGBA", (WIDTH, HEIGHT), (1, 2, 3, 255))]
    body = encode("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert_same(decode_pixels(body, SPEC), by_pillow(opened(body)), resizer)


def test_a_cmyk_jpeg_is_read_in_strips_too(resizer: str) -> None:
    body = encode("JPEG", picture("CMYK"), quality=97)
    assert_same(decode_pixels(body, SPEC), by_pillow(opened(body)), resizer)


@pytest.mark.parametrize("shift", [0, 4])
def test_colour_of_sixteen_and_of_twelve_bits(shift: int, resizer: str) -> None:
    deep = np.asarray(picture("RGB")).astype(np.uint16) << 8 >> shift
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    body = png_of(png_header(WIDTH, HEIGHT, 16, 2), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    assert_same(decode_pixels(body, SPEC), by_pillow(picture("RGB")), resizer)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "CMYK", "L", "1"])
def test_images_in_memory(mode: str, resizer: str) -> None:
    image = picture(mode)
    assert_same(to_pixels(image, SPEC), by_pillow(image), resizer)


def test_a_strip_is_cut_where_it_is_asked_for() -> None:
    image = picture("L")
    strip = rows_of_image(image).read(100, 103)
    assert (strip.mode, strip.size) == ("RGB", (WIDTH, 3))
    np.testing.assert_array_equal(np.asarray(strip)[..., 1], np.asarray(image)[100:103])


def test_an_image_that_is_narrow_and_long() -> None:
    image = picture("LA").resize((3, 16_000))
    spec = InputSpec(height=32, width=32)
    top = (16_000 - 3) / 2
    expected = image.convert("RGBA").resize((32, 32), 3, (0, top, 3, top + 3))
    canvas = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
    shown = Image.alpha_composite(canvas, expected).convert("RGB")
    np.testing.assert_array_equal(to_pixels(image, spec), np.asarray(shown))


def test_a_png_with_a_transparent_value_of_sixteen_bits(resizer: str) -> None:
    values = np.asarray(picture("I;16"))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    transparent = struct.pack(">H", int(values[400, 300]))
    body = encode("PNG", picture("I;16"))
    body = body[:33] + chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(rows))
    body += chunk(b"IEND", b"")
    gray = (values >> 8).astype(np.uint8)
    alpha = np.where(values == values[400, 300], 0, 255).astype(np.uint8)
    expected = Image.fromarray(np.stack([gray, gray, gray, alpha], -1))
    assert_same(decode_pixels(body, SPEC), by_pillow(expected), resizer)


@pytest.mark.parametrize("size", [(700, 1400), (1400, 700), (780, 800)])
def test_a_picture_comes_out_the_same_in_whatever_form(size: tuple[int, int], resizer: str) -> None:
    image = picture("RGB").resize(size)
    spec = InputSpec(height=224, width=224)
    expected = to_pixels(image, spec)
    side, (left, top) = min(size), ((size[0] - min(size)) / 2, (size[1] - min(size)) / 2)
    across = image.resize((224, size[1]), 3, (left, 0, left + side, size[1]))
    down = across.resize((224, 224), 3, (0, top, 224, top + side))
    assert_same(expected, np.asarray(down), resizer)
    for body in (encode("PNG", image), encode("WEBP", image, lossless=True)):
        np.testing.assert_array_equal(decode_pixels(body, spec), expected)
    file = encode("JPEG", image, quality=95, subsampling=0)
    loaded = opened(file)
    loaded.load()
    np.testing.assert_array_equal(decode_pixels(file, spec), to_pixels(loaded, spec))
