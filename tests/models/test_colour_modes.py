"""From inks, palettes, transparency and any depth to RGB of 8 bits."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from drawn_photos import SMALL, at_own_size, photo
from image_bytes import encode, png_header, png_of
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError
from isoserve.models.preprocessing import decode_pixels


def png(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of (width, height, depth, colour type) and unfiltered rows without filter bytes."""
    height = header[1]
    step = len(rows) // height
    raw = b"".join(b"\0" + rows[i * step : (i + 1) * step] for i in range(height))
    return png_of(png_header(*header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b""))


def test_cmyk_is_inked_paper() -> None:
    inks = photo(40, 32, channels=4)
    image = Image.frombytes("CMYK", (40, 32), inks.tobytes())
    body = encode("JPEG", image, quality=100, subsampling=0)
    # Adobe's CMYK, which Pillow writes, stores ink inverted; the JPEG step costs a few levels.
    cyan_magenta_yellow, black = inks[..., :3] / 255.0, inks[..., 3:] / 255.0
    expected = 255 * (1 - cyan_magenta_yellow) * (1 - black)
    assert np.abs(decode_pixels(body, at_own_size(40, 32)) - expected).max() < 8


def test_ycck_is_luminance_and_chrominance_of_the_inverted_inks() -> None:
    planes = np.empty((16, 16, 4), dtype=np.uint8)
    planes[...] = 180, 90, 150, 200  # Y, Cb, Cr, K as stored
    body = encode("JPEG", Image.frombytes("CMYK", (16, 16), (255 - planes).tobytes()), quality=100)
    flag = body.index(b"Adobe") + 11
    body = body[:flag] + b"\x02" + body[flag + 1 :]
    y, cb, cr, k = 180.0, 90 - 128, 150 - 128, 200.0
    # T.871's RGB of Y, Cb, Cr is 255 - CMY; stored inverted, CMY's and K's paper shows through.
    inked = 255 - np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    expected = np.clip(inked, 0, 255) * k / 255
    assert np.abs(decode_pixels(body, at_own_size(16, 16)) - expected).max() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_composed_on_white(mode: str, kind: str) -> None:
    pixels = photo(30, 20, channels=len(mode))
    pixels[..., -1] = np.arange(600).reshape(20, 30) % 256
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    body = encode(kind, Image.frombytes(mode, (30, 20), pixels.tobytes()), **options)
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255.0
    expected = np.broadcast_to(alpha * colour + (1 - alpha) * 255, (20, 30, 3))
    assert np.abs(decode_pixels(body, at_own_size(30, 20)) - expected).max() <= 1


def test_transparency_is_weighed_when_resizing() -> None:
    # Half of each block is transparent black: composed on white it is half white, half red.
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[:, ::2] = 255, 0, 0, 255
    shown = decode_pixels(encode("PNG", pixels), InputSpec(height=4, width=4))
    assert np.abs(shown.astype(int) - (255, 128, 128)).max() <= 3


def test_a_palettes_colours_and_transparent_entries_are_looked_up() -> None:
    palette = bytes(range(48))
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16) % 16
    alpha = bytes([0, 128, 255])
    body = png((16, 16, 8, 3), indices.tobytes(), (b"PLTE", palette), (b"tRNS", alpha))
    table = np.frombuffer(palette, np.uint8).reshape(16, 3).astype(float)
    opacity = np.array([0, 128, 255, *[255] * 13])[:, None] / 255
    expected = (opacity * table + (1 - opacity) * 255)[indices]
    assert np.abs(decode_pixels(body, at_own_size(16, 16)) - expected).max() <= 1


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_are_shown_by_their_high_byte(colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, channels)).astype(">u2")
    if colour_type >= 4:
        values[..., -1] = 65535
    body = png((8, 8, 16, colour_type), values.tobytes())
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    expected = np.broadcast_to(colour >> 8, (8, 8, 3))
    assert np.array_equal(decode_pixels(body, at_own_size(8, 8)), expected)


def sixteen_bit_png(values: NDArray[np.uint16], colour_type: int) -> bytes:
    return png((*values.shape[1::-1], 16, colour_type), values.astype(">u2").tobytes())


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_twelve_bits_in_sixteen_are_shown_by_their_own_range(colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, channels)).astype(np.uint16)
    values[0, 0] = 4095
    if colour_type >= 4:
        values[..., -1] = 65535
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    shown = decode_pixels(sixteen_bit_png(values, colour_type), at_own_size(8, 8))
    assert np.array_equal(shown, np.broadcast_to(colour >> 4, (8, 8, 3)))
    values[0, 0, 0] = 4096  # a thirteenth bit: then all of them are meant
    colour = values[..., :3] if channels >= 3 else values[..., :1]
    shown = decode_pixels(sixteen_bit_png(values, colour_type), at_own_size(8, 8))
    assert np.array_equal(shown, np.broadcast_to(colour >> 8, (8, 8, 3)))


def tiff(values: NDArray[np.uint16], *entries: tuple[int, int]) -> bytes:
    """Little-endian gray of 16 bits, with a directory of (tag, short) beside what it needs."""
    fields = {256: values.shape[1], 257: values.shape[0], 258: 16, 259: 1, 262: 1, 277: 1}
    fields |= {278: values.shape[0], 279: values.nbytes, 273: 8} | dict(entries)
    start = 8 + values.nbytes
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, fields[tag]) for tag in sorted(fields))
    head = b"II*\0" + struct.pack("<I", start) + values.astype("<u2").tobytes()
    return head + struct.pack("<H", len(fields)) + directory + bytes(4)


def test_a_tiff_is_shown_by_the_range_it_declares() -> None:
    values = (np.arange(64, dtype=np.uint16) * 255).reshape(8, 8)  # up to 16,065
    shown = {
        (): values >> 8,
        ((281, 16383),): values >> 6,
        ((281, 4095),): values >> 8,  # not true
        ((262, 0),): 255 - (values >> 8),  # white is zero
    }
    for entries, expected in shown.items():
        pixels = decode_pixels(tiff(values, *entries), at_own_size(8, 8))
        assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=-1))
    dark = values // 16
    pixels = decode_pixels(tiff(dark), at_own_size(8, 8))
    assert np.array_equal(pixels[..., 0], dark >> 4)
    dim = values // 64
    assert np.array_equal(
        decode_pixels(tiff(dim, (281, 1023)), at_own_size(8, 8))[..., 0], dim >> 2
    )


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)])
def test_samples_without_a_range_are_refused_in_words(values: NDArray[Any]) -> None:
    with pytest.raises(ImageFileError, match="not supported"):
        decode_pixels(encode("TIFF", values), SMALL)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiffs_first_page_counts(compression: str) -> None:
    first, second = Image.fromarray(photo(40, 32)), Image.new("RGB", (40, 32), "blue")
    options = {"quality": 100} if compression == "jpeg" else {}
    pages: dict[str, Any] = {"save_all": True, "append_images": [second]}
    body = encode("TIFF", first, compression=compression, **pages, **options)
    shown = decode_pixels(body, at_own_size(40, 32)).astype(int)
    assert np.abs(shown - photo(40, 32)).mean() < (5 if compression == "jpeg" else 0.01)


@pytest.mark.parametrize(("colour_type", "depth"), [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_the_colour_declared_transparent_is_white(colour_type: int, depth: int) -> None:
    channels = 3 if colour_type == 2 else 1
    if depth == 1:
        rows, key = bytes([0b01010101] * 8), bytes([0, 0])
        expected = np.full((8, 8), 255)
    else:
        kind = ">u2" if depth == 16 else "u1"
        values = np.full((8, 8, channels), 200 << (depth - 8), dtype=kind)
        values[:, ::2] = 50 << (depth - 8)
        rows, key = values.tobytes(), np.full(channels, 50 << (depth - 8), ">u2").tobytes()
        expected = np.where(np.arange(8) % 2 == 0, 255, 200) * np.ones((8, 1))
    body = png((8, 8, depth, colour_type), rows, (b"tRNS", key))
    shown = decode_pixels(body, at_own_size(8, 8))
    assert np.array_equal(shown, np.repeat(expected[..., None], 3, axis=-1))


def test_one_bit_is_black_and_white() -> None:
    bits = np.unpackbits(np.arange(8, dtype=np.uint8)).reshape(8, 8)
    body = png((8, 8, 1, 0), np.packbits(bits).tobytes())
    expected = np.repeat(bits[..., None] * 255, 3, axis=-1)
    assert np.array_equal(decode_pixels(body, at_own_size(8, 8)), expected)


def test_a_gifs_first_frame_is_what_counts() -> None:
    first, second = Image.new("RGB", (20, 20), (200, 30, 40)), Image.new("RGB", (20, 20), "blue")
    body = encode("GIF", first, save_all=True, append_images=[second], comment=b"hello " * 200)
    assert np.abs(decode_pixels(body, SMALL).astype(int) - (200, 30, 40)).max() <= 1
