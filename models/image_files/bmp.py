"""BMP files: size, and whether their rows are run-length coded."""

from __future__ import annotations

from isoserve.models.errors import TruncatedImageError

MAGIC = b"BM"

_CORE_HEADER = 12
_RLE8, _RLE4 = 1, 2


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) in pixels; rows stored top-down count like others.

    Raises:
        ImageFileError: the header is cut off.
    """
    if len(body) < 34:
        raise TruncatedImageError(f"the BMP ends after {len(body)} bytes, within its header")
    if _little(body, 14, 4) == _CORE_HEADER:
        return _little(body, 18, 2), _little(body, 20, 2)
    width = int.from_bytes(body[18:22], "little", signed=True)
    height = int.from_bytes(body[22:26], "little", signed=True)
    return abs(width), abs(height)


def is_run_length_coded(body: bytes) -> bool:
    return _little(body, 14, 4) > _CORE_HEADER and _little(body, 30, 4) in (_RLE8, _RLE4)


def _little(body: bytes, start: int, size: int) -> int:
    return int.from_bytes(body[start : start + size], "little")
