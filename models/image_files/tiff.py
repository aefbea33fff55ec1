"""TIFF files (revision 6.0): the first page's size, and the range of its samples."""

from __future__ import annotations

import struct
from typing import NamedTuple

from isoserve.models.errors import (
    ImageFileError,
    ImageFormatError,
    LongHeaderError,
    TruncatedImageError,
)

MAGIC = (b"II*\0", b"MM\0*")

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _MAX_VALUE, _SAMPLE_FORMAT = 256, 257, 258, 262, 281, 339
_SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 277, 278, 322, 323
_BYTE, _SHORT, _LONG = 1, 3, 4
_SIZES = {_BYTE: "B", _SHORT: "H", _LONG: "I"}
_WHITE_IS_ZERO = 0
_UNSIGNED = 1

_FEW_ENTRIES = 256
"""Are read at a glance; a camera writes some thirty."""


class Tiff(NamedTuple):
    """What the first page's directory says."""

    width: int
    height: int
    bits: int
    """A sample."""
    max_value: int
    """The largest sample, as declared; 0 where nothing is."""
    white_is_zero: bool
    samples: int
    """A pixel."""
    block_bytes: int
    """Of one strip or tile, which is unpacked at once."""


def read_tiff(body: bytes, *, quick: bool = False) -> Tiff:
    """Read the first directory; no value of more than its own entry is followed but the bits'.

    Args:
        quick: whether to give up where there are more than a few.

    Raises:
        LongHeaderError: given up.
        ImageFormatError: samples that are neither whole and unsigned nor of at most 16 bits.
        ImageFileError: no directory within the file, or none with a size.
    """
    order = "<" if body[:2] == b"II" else ">"
    if len(body) < 8:
        raise TruncatedImageError(f"the TIFF ends after {len(body)} bytes, within its header")
    (start,) = struct.unpack_from(f"{order}I", body, 4)
    if start + 2 > len(body):
        raise TruncatedImageError(
            f"the TIFF ends after {len(body)} bytes; its directory begins at byte {start}"
        )
    (count,) = struct.unpack_from(f"{order}H", body, start)
    if quick and count > _FEW_ENTRIES:
        raise LongHeaderError
    entries = body[start + 2 : start + 2 + 12 * count]
    tags: dict[int, int] = {}
    for tag, kind, values, field in struct.iter_unpack(
        f"{order}HHI4s", entries[: len(entries) // 12 * 12]
    ):
        if kind not in _SIZES or not values:
            continue
        size = struct.calcsize(_SIZES[kind])
        place = field
        if size * values > 4:
            (at,) = struct.unpack(f"{order}I", field)
            place = body[at : at + size]
        if len(place) >= size:
            tags.setdefault(tag, struct.unpack_from(order + _SIZES[kind], place)[0])
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ImageFileError("the TIFF's first directory has no size")
    bits = tags.get(_BITS, 1)
    if tags.get(_SAMPLE_FORMAT, _UNSIGNED) != _UNSIGNED or bits > 16:
        raise ImageFormatError(
            f"a TIFF of {bits} bits a sample that are signed, floating or more than 16 is not "
            "supported: save 8 or 16 bits"
        )
    samples = max(tags.get(_SAMPLES, 1), 1)
    if _TILE_WIDTH in tags and _TILE_HEIGHT in tags:
        block = tags[_TILE_WIDTH] * tags[_TILE_HEIGHT]
    else:
        block = tags[_WIDTH] * min(tags.get(_ROWS, tags[_HEIGHT]), tags[_HEIGHT])
    return Tiff(
        tags[_WIDTH],
        tags[_HEIGHT],
        bits,
        tags.get(_MAX_VALUE, 0),
        tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
        samples,
        block * samples * (1 if bits <= 8 else 2),
    )
