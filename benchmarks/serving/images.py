"""Image files to post: the one of the throughput runs, everyday ones, and ones made to harm."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def write_image(path: Path, side: int = 32, quality: int = 90) -> Path:
    """A JPEG of smooth noise, about 1 KB at side 32."""
    path.write_bytes(_encoded("JPEG", _smooth(side), quality=quality))
    return path


def everyday() -> list[bytes]:
    """Files to be answered with 200: small ones of every format, and a few photographs' sizes."""
    small, middle = _smooth(32), _smooth(256)
    return [
        _encoded("JPEG", small, quality=90),
        _encoded("JPEG", small, quality=50, progressive=True),
        _encoded("JPEG", small.convert("L")),
        _encoded("JPEG", small.convert("CMYK")),
        _encoded("PNG", small),
        _encoded("PNG", small.convert("P")),
        _encoded("PNG", small.convert("RGBA")),
        _encoded("WEBP", small),
        _encoded("GIF", small),
        _encoded("BMP", small),
        _encoded("JPEG", middle, quality=85),
        _encoded("PNG", middle),
        _encoded("JPEG", _smooth(1024), quality=80),
    ]


def hostile() -> list[bytes]:
    """Files to be refused with a 4xx: damaged, false, empty, or of far more pixels than bytes."""
    jpeg, png = _encoded("JPEG", _smooth(64)), _encoded("PNG", _smooth(64))
    webp = _encoded("WEBP", _smooth(64))
    chance = random.Random(0)
    wrong_sum = bytearray(png)
    wrong_sum[len(png) // 2] ^= 0xFF
    return [
        b"not an image at all",
        chance.randbytes(2000),
        b"\xff\xd8\xff" + chance.randbytes(500),
        PNG_MAGIC + chance.randbytes(500),
        *(whole[: len(whole) // 2] for whole in (jpeg, png, webp)),
        bytes(wrong_sum),
        png_of_zeros(12_800, 12_800),
        png_of_zeros(1, 60_000),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b";",
    ]


def png_of_zeros(width: int, height: int) -> bytes:
    """A whole gray PNG, a thousandth of its pixels long."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return PNG_MAGIC + b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        for kind, held in chunks
    )


def _smooth(side: int) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def _encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()
