"""Image files for tests, encoded by Pillow or put together byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import isoserve.models.preprocessing  # noqa: F401 - teaches Pillow HEIF

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


def noise(width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    """The same at each call."""
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(kind: str, image: Image.Image | NDArray[Any] | None = None, **options: Any) -> bytes:
    """The image or its pixels, else noise, as a file of Pillow's format ``kind``."""
    if image is None:
        image = noise()
    elif not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


def exif(orientation: int, order: str = ">") -> bytes:
    """An EXIF block of one entry in the byte order of :mod:`struct`'s ``order``."""
    magic = b"MM\0*" if order == ">" else b"II*\0"
    entry = struct.pack(f"{order}IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + magic + entry + bytes(4)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return PNG_MAGIC + b"".join(chunk(kind, data) for kind, data in chunks)


def png_header(
    width: int, height: int, depth: int = 8, colour: int = 0, interlaced: int = 0
) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def chunks_of(body: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, data) of each chunk of a PNG."""
    found, position = [], len(PNG_MAGIC)
    while position < len(body):
        (length,) = struct.unpack_from(">I", body, position)
        start = position + 8
        found.append((body[position + 4 : start], body[start : start + length]))
        position = start + length + 4
    return found


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def colour(red: int, green: int, blue: int, size: int = 8) -> bytes:
    """A PNG of one colour."""
    return encode("PNG", np.full((size, size, 3), (red, green, blue), dtype=np.uint8))
