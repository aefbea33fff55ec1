"""The one thing pixels depend on in an EXIF block: which way up the camera was held."""

from __future__ import annotations

import struct

UPRIGHT = 1
"""Row 0 is the visual top, column 0 the visual left (EXIF 2.32, tag 0x0112)."""

_ORIENTATION = 0x0112
_SHORT = 3
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_PREFIX = b"Exif\0\0"


def read_orientation(exif: bytes) -> int:
    """Orientation 1 ... 8 of an EXIF block, :data:`UPRIGHT` where it says none or nonsense.

    Only the first directory's entries are looked at and no value is followed, so a block that
    claims millions of values costs no more than an honest one.
    """
    tiff = exif.removeprefix(_PREFIX)
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = tiff[start + 2 : start + 2 + 12 * count]
    entry = struct.Struct(f"{order}HHIHxx")
    for tag, kind, values, value in entry.iter_unpack(entries[: len(entries) // 12 * 12]):
        if tag == _ORIENTATION:
            return value if kind == _SHORT and values == 1 and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
