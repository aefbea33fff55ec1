"""Image files to post: the one of the throughput runs, everyday ones, and ones made to harm."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

SIZES = {"1": (1216, 912), "12": (4032, 3024), "48": (8064, 6048)}
"""Megapixels, in round numbers -> width and height."""

PHOTOGRAPHS = {
    f"{kind} {megapixels}": (kind, size)
    for kind in ("JPEG", "HEIC", "PNG")
    for megapixels, size in SIZES.items()
}
"""Name -> format and size; as telephones and their owners send them."""

QUICKEST = "JPEG 1"
GRAIN = {"JPEG": 12, "HEIC": 4, "PNG": 1}
"""Levels of 255, up and down: JPEGs of 0.3 bytes a pixel, as telephones' have, and PNGs within the
20 MB that a server takes."""

HEADER_ONLY = ("HEIC 48", "PNG 48")
"""Of more pixels than a server takes, which their headers say: what is in them is not read."""


def write_image(path: Path, side: int = 32, quality: int = 90) -> Path:
    """A JPEG of smooth noise, about 1 KB at side 32."""
    path.write_bytes(_encoded("JPEG", _smooth(side), quality=quality))
    return path


def write_photograph(path: Path, name: str = QUICKEST) -> Path:
    """One of :data:`PHOTOGRAPHS`: smooth fields of several scales, and the grain of a sensor."""
    kind, size = PHOTOGRAPHS[name]
    grain = 0 if name in HEADER_ONLY else GRAIN[kind]
    image = _grainy(size, grain) if grain else Image.new("RGB", size, (90, 120, 60))
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(path, quality=60, enc_params={"preset": "ultrafast"})
    else:
        options = {"quality": 90} if kind == "JPEG" else {"compress_level": 1}
        path.write_bytes(_encoded(kind, image, **options))
    return path


def costly_webp() -> bytes:
    """34 bytes that take a core half a second, of about as many pixels as a server takes."""
    return _encoded("WEBP", Image.new("RGB", (3250, 3250)), lossless=True, method=0)


def _grainy(size: tuple[int, int], grain: int) -> Image.Image:
    chance = np.random.default_rng(0)
    scene = np.zeros((size[1] // 8, size[0] // 8, 3), dtype=np.float32)
    for scale, contrast in ((5, 0.5), (23, 0.25), (97, 0.15), (211, 0.1)):
        coarse = chance.integers(0, 256, (scale, scale, 3), dtype=np.uint8)
        field = Image.fromarray(coarse).resize(scene.shape[1::-1], Image.Resampling.BILINEAR)
        scene += contrast * np.asarray(field, dtype=np.float32)
    whole = Image.fromarray(scene.clip(0, 255 - 2 * grain).astype(np.uint8)).resize(size)
    noise = chance.integers(0, 2 * grain + 1, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(np.minimum(np.asarray(whole), 255 - 2 * grain) + noise)


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
