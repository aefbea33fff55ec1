"""BMP files: size, and whether run-length coded rows are all there."""

from __future__ import annotations

from models.errors import ImageFileError, TruncatedImageError

MAGIC = b"BM"

MAX_RLE_BYTES = 1 << 18
"""Pillow unpacks run-length coding in Python, holding its lock: 256 KiB take about 0.1 s."""

_CORE_HEADER = 12
_RLE8, _RLE4 = 1, 2


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) in pixels; rows stored top-down count like others.

    Raises:
        ImageFileError: the header is cut off.
    """
    if len(body) < 26:
        raise TruncatedImageError(f"the BMP ends after {len(body)} bytes, within its header")
    if int.from_bytes(body[14:18], "little") == _CORE_HEADER:
        return int.from_bytes(body[18:20], "little"), int.from_bytes(body[20:22], "little")
    width = int.from_bytes(body[18:22], "little", signed=True)
    height = int.from_bytes(body[22:26], "little", signed=True)
    return abs(width), abs(height)


def check_rows(body: bytes) -> None:
    """Look that run-length coded data reach the image's end; Pillow fills in what is missing.

    Raises:
        ImageFileError: they do not, or are longer than :data:`MAX_RLE_BYTES`.
    """
    if int.from_bytes(body[14:18], "little") < 40 or len(body) < 34:
        return
    compression = int.from_bytes(body[30:34], "little")
    if compression not in (_RLE8, _RLE4):
        return
    data = body[int.from_bytes(body[10:14], "little") :]
    if len(data) > MAX_RLE_BYTES:
        raise ImageFileError(
            f"the BMP has {len(data)} bytes of run-length coded rows; at most {MAX_RLE_BYTES} "
            "are read: save it as PNG"
        )
    width, height = read_size(body)
    if not _reaches_end(data, width, height, pixels_per_byte=compression):
        raise TruncatedImageError("the BMP's run-length coded rows end before the image does")


def _reaches_end(data: bytes, width: int, height: int, pixels_per_byte: int) -> bool:
    """Whether the codes come to their end mark, or to the last pixel without one."""
    position = row = column = 0
    while position + 1 < len(data):
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            column += count
        elif value == 0:
            row, column = row + 1, 0
        elif value == 1:
            return True
        elif value == 2 and position + 1 < len(data):
            column, row = column + data[position], row + data[position + 1]
            position += 2
        else:
            column += value
            bytes_ = -(-value // pixels_per_byte)
            position += bytes_ + bytes_ % 2
        if row >= height or (row == height - 1 and column >= width and position <= len(data)):
            return True
    return False
