"""What a body gets as a server decodes it: an answer or a refusal."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from image_bytes import (
    encode,
    png_header,
    png_of,
)

from isoserve.models.card import InputSpec
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import (
    InvalidImage,
    Reason,
    check_header,
    decode,
)

SPEC = InputSpec(height=32, width=32)
LIMITS = ImageLimits()


def png(width: int, height: int, *between: tuple[bytes, bytes], data: bytes | None = None) -> bytes:
    """A gray PNG, all zeros unless the image data are given."""
    data = zlib.compress(bytes(height * (width + 1))) if data is None else data
    return png_of(png_header(width, height), *between, (b"IDAT", data), (b"IEND", b""))


def with_height(jpeg: bytes, height: int) -> bytes:
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    return jpeg[: frame + 5] + struct.pack(">H", height) + jpeg[frame + 7 :]


def refusal_of(body: bytes, limits: ImageLimits = LIMITS) -> InvalidImage | None:
    """What the client is answered, or None where there are pixels."""
    try:
        check_header(body, limits)
        pixels = decode(body, SPEC, limits)
    except InvalidImage as refusal:
        return refusal
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    return None


def answer(body: bytes, limits: ImageLimits = LIMITS) -> str:
    """'served', or the reason of the refusal."""
    refusal = refusal_of(body, limits)
    if refusal is None:
        return "served"
    assert refusal.status in (400, 413, 415)
    assert refusal.reason in list(Reason)
    assert ";" in refusal.detail or ":" in refusal.detail  # ... and what would be right
    for internal in ("PIL", "Pillow", "simplejpeg", "object at", "Error", "models", "/"):
        assert internal not in refusal.detail
    return str(refusal.reason)


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    body = encode("JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    repeated = scans - body.count(b"\xff\xda")
    return body[:last] + body[last:-2] * (repeated + 1) + b"\xff\xd9"
