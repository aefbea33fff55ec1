"""AVIF and HEIF files (ISO/IEC 23008-12): which of the two, and the size they declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files import av1

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_EITHER_BRANDS = (b"mif1", b"msf1", b"mif2")

_MAX_BOXES = 4096
_MAX_BRANDS = 64
_MAX_ITEMS = 4096
_LOOKED_AT = 1024
"""Bytes of an item, at whose beginning the frame size stands."""


def kind_of(head: bytes) -> Literal["AVIF", "HEIF"] | None:
    """What the file type box says; of twelve bytes only its first brand is known."""
    if head[4:8] != b"ftyp":
        return None
    brands = [head[8:12]]
    if brands[0] in _EITHER_BRANDS:
        end = min(int.from_bytes(head[:4]), len(head), 16 + 4 * _MAX_BRANDS)
        brands += [head[at : at + 4] for at in range(16, end - 3, 4)]
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    if any(brand in (*_HEIF_BRANDS, *_EITHER_BRANDS) for brand in brands):
        return "HEIF"
    return None


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) of the largest image that is declared: the whole one, before it is turned,
    and before what only fills its last blocks is cut off.

    Raises:
        ImageFileError: no image with a size.
    """
    largest = (0, 0)
    for kind, start, end in _in_meta(body):
        if kind == b"iprp":
            for kind_of_properties, first, last in _boxes(body, start, end):
                if kind_of_properties == b"ipco":
                    largest = max(largest, *_sizes(body, first, last), key=_area)
    if largest == (0, 0):
        raise ImageFileError("the file has no image with a size")
    return largest


def check_av1_sizes(body: bytes) -> None:
    """Refuse an AVIF whose pictures are larger than its boxes say: they would be decoded whole.

    Raises:
        ImageFileError: so it is, or there is no picture.
    """
    idat, places = 0, []
    for kind, start, end in _in_meta(body):
        if kind == b"idat":
            idat = start
        elif kind == b"iloc":
            places = _locations(body[start:end])
    pictures = [
        size
        for in_idat, offset, length in places
        if (size := av1.frame_size(_extent(body, offset + idat * in_idat, length))) is not None
    ]
    declared = read_size(body)
    if not pictures:
        raise ImageFileError("the AVIF has no picture")
    if max(map(_area, pictures)) > _area(declared):
        raise ImageFileError("the AVIF's headers disagree on its size")


def _extent(body: bytes, start: int, length: int) -> bytes:
    return body[start : min(start + (length or len(body)), start + _LOOKED_AT)]


def _locations(box: bytes) -> list[tuple[bool, int, int]]:
    """(whether in ``idat``, offset, length) of each item's first extent (8.11.3)."""
    version = box[0] if box else 0
    sizes = int.from_bytes(box[4:6])
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    count, position = int.from_bytes(box[6 : 6 + wide]), 6 + wide
    found = []
    for _ in range(min(count, _MAX_ITEMS)):
        position += wide
        method = 0
        if version:
            method = int.from_bytes(box[position : position + 2]) & 15
            position += 2
        position += 2
        base = int.from_bytes(box[position : position + base_size])
        extents = int.from_bytes(box[position + base_size : position + base_size + 2])
        position += base_size + 2
        start = position + index_size
        offset = int.from_bytes(box[start : start + offset_size])
        length = int.from_bytes(box[start + offset_size : start + offset_size + length_size])
        if extents:
            found.append((method == 1, base + offset, length))
        position += extents * (index_size + offset_size + length_size)
        if position > len(box):
            break
    return found


def _in_meta(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    for kind, start, end in _boxes(body, 0, len(body)):
        if kind == b"meta":
            yield from _boxes(body, start + 4, end)


def _sizes(body: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    yield (0, 0)
    for kind, first, last in _boxes(body, start, end):
        if kind == b"ispe" and last - first >= 12:
            yield (
                int.from_bytes(body[first + 4 : first + 8]),
                int.from_bytes(body[first + 8 : first + 12]),
            )


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _boxes(body: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the contents of each box."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind, header = int.from_bytes(body[start : start + 4]), body[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(body[start + 8 : start + 16]), 16
        elif size == 0:
            size = end - start
        if size < header:
            raise ImageFileError(f"the box {kind.decode('latin-1')!r} has an impossible length")
        if start + size > end:
            if kind == b"mdat":
                raise TruncatedImageError(f"the file ends after {end} bytes, within its image data")
            raise TruncatedImageError(f"the file ends after {end} bytes, within its header")
        yield kind, start + header, start + size
        start += size
