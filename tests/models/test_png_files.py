"""PNGs by their chunks: what pixels need of them, and what damage is refused."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from image_bytes import (
    chunk,
    chunks_of,
    encode,
    noise,
    opened,
    png_header,
    png_of,
)

from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files import png

ADAM7 = (
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "77777777",
)
"""The standard's figure: in which pass each pixel of an 8 x 8 block is sent."""


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_a_png_is_brought_down_to_what_pixels_need(mode: str) -> None:
    if mode == "I;16":
        body = encode("PNG", np.arange(851, dtype=np.uint16).reshape(23, 37))
    else:
        body = encode("PNG", noise(mode=mode))
    header, *data, end = chunks_of(body)
    text = (b"zTXt", b"bomb\0\0" + zlib.compress(bytes(1 << 20)))
    crowded = png_of(header, text, (b"iCCP", b"x"), *data, (b"tEXt", b"a\0b"), end) + b"trailer"
    read = png.read_png(crowded)
    kinds = {kind for kind, _ in chunks_of(read.body)}
    assert kinds <= {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
    with opened(read.body) as bare, opened(body) as image:
        assert bare.tobytes() == image.tobytes()


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 4), (8, 8), (9, 17)])
@pytest.mark.parametrize(
    ("depth", "colour", "channels"), [(1, 0, 1), (4, 3, 1), (8, 2, 3), (16, 6, 4)]
)
def test_a_png_short_of_one_byte_is_refused(
    interlaced: int, size: tuple[int, int], depth: int, colour: int, channels: int
) -> None:
    width, height = size
    pass_of = np.ones((height, width), dtype=int)
    if interlaced:
        rows = [list(map(int, row)) for row in ADAM7]
        pass_of = np.tile(rows, (3, 3))[:height, :width]
    total = 0
    for number in range(1, 8):
        rows, columns = (len(np.unique(axis)) for axis in np.nonzero(pass_of == number))
        total += rows * (1 + (columns * depth * channels + 7) // 8)

    def body(length: int) -> bytes:
        header = png_header(width, height, depth, colour, interlaced)
        return png_of(
            header,
            (b"PLTE", bytes(48)),
            (b"IDAT", zlib.compress(bytes(length))),
            (b"IEND", b""),
        )

    png.read_png(body(total))
    png.read_png(body(total + 1000))
    with pytest.raises(TruncatedImageError, match=f"{total - 1} of {total}"):
        png.read_png(body(total - 1))


def test_damaged_png_structures_are_refused_by_name() -> None:
    header, data, end = chunks_of(encode("PNG"))
    whole = png_of(header, data, end)
    at = whole.index(b"IDAT") + 20
    cases = {
        "checksum": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "unknown critical chunk": png_of(header, (b"ABCD", b""), data, end),
        "palette": png_of((b"IHDR", header[1][:9] + b"\3" + header[1][10:]), data, end),
        "second chunk IHDR": png_of(header, header, data, end),
        "second chunk PLTE": png_of(header, (b"PLTE", bytes(3)), (b"PLTE", bytes(3)), data, end),
        "second chunk IHDR.*": png_of(header, data, header, end),
        "between those": png_of(
            header, (b"IDAT", data[1][:50]), (b"tEXt", b"a\0b"), (b"IDAT", data[1][50:]), end
        ),
        "between those of its": png_of(header, data, (b"tIME", bytes(7)), (b"IDAT", b""), end),
        "with 3 bits": png_of((b"IHDR", header[1][:8] + b"\3" + header[1][9:]), data, end),
        "interlacing": png_of((b"IHDR", header[1][:12] + b"\2"), data, end),
        "compression": png_of((b"IHDR", header[1][:10] + b"\1" + header[1][11:]), data, end),
        "4 bytes, not three": png_of(
            (b"IHDR", header[1][:9] + b"\3" + header[1][10:]), (b"PLTE", bytes(4)), data, end
        ),
        "colour type": png_of((b"IHDR", header[1][:9] + b"\5" + header[1][10:]), data, end),
        "compressed image data": png_of(header, (b"IDAT", b"\0" * 50), end),
        "end chunk": whole[:-12],
        "0 of": png_of(header, end),
    }
    for words, body in cases.items():
        with pytest.raises(ImageFileError, match=words):
            png.read_png(body)


def test_image_data_in_consecutive_chunks_are_read() -> None:
    header, data, end = chunks_of(encode("PNG"))
    parts = [(b"IDAT", data[1][at : at + 99]) for at in range(0, len(data[1]), 99)]
    assert (
        png.read_png(png_of(header, *parts, end)).body
        == png.read_png(png_of(header, data, end)).body
    )


def test_a_million_empty_chunks_are_not_walked() -> None:
    header, data, end = chunks_of(encode("PNG"))
    body = png_of(header) + chunk(b"IDAT", b"") * 200_000 + png_of(data, end)[8:]
    with pytest.raises(ImageFileError, match="more than"):
        png.read_png(body)
