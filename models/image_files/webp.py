"""WebP files (RFC 9649): size and orientation; libwebp itself refuses what is not whole."""

from __future__ import annotations

from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files.exif import UPRIGHT, read_orientation

_MAX_CHUNKS = 10_000
_HEADER_ENDS = {b"VP8L": 25}
_HAS_EXIF = 0x08
_LOOKED_AT = 16


def is_webp(body: bytes) -> bool:
    return body[:4] == b"RIFF" and body[8:12] == b"WEBP"


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) of the canvas in pixels.

    Raises:
        ImageFileError: not one of the three kinds of header.
    """
    kind = body[12:16]
    if len(body) < _HEADER_ENDS.get(kind, 30):
        raise TruncatedImageError(f"the WebP ends after {len(body)} bytes, within its header")
    if kind == b"VP8X":
        return _little(body, 24, 3) + 1, _little(body, 27, 3) + 1
    if kind == b"VP8L" and body[20] == 0x2F:
        bits = _little(body, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and body[23:26] == b"\x9d\x01\x2a":
        return _little(body, 26, 2) & 0x3FFF, _little(body, 28, 2) & 0x3FFF
    raise ImageFileError("the WebP has no image header")


def is_lossless(body: bytes) -> bool:
    """Whether the first image, or its transparency, is coded without loss, the slower way.

    So is one whose image data do not come within :data:`_LOOKED_AT` chunks.
    """
    position = 12
    for _ in range(_LOOKED_AT):
        kind = body[position : position + 4]
        if kind == b"VP8 ":
            return False
        if kind in (b"VP8L", b"ALPH"):
            return True
        length = _little(body, position + 4, 4)
        position += 24 if kind == b"ANMF" else 8 + length + length % 2
    return True


def read_orientation_chunk(body: bytes) -> int:
    """EXIF orientation, :data:`UPRIGHT` where there is none."""
    if body[12:16] != b"VP8X" or not body[20] & _HAS_EXIF:
        return UPRIGHT
    position = 12
    for _ in range(_MAX_CHUNKS):
        end = position + 8 + _little(body, position + 4, 4)
        if body[position : position + 4] == b"EXIF":
            return read_orientation(body[position + 8 : end])
        position = end + end % 2
        if position + 8 > len(body):
            break
    return UPRIGHT


def _little(body: bytes, start: int, size: int) -> int:
    return int.from_bytes(body[start : start + size], "little")
