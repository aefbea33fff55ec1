"""AVIF and HEIF files (ISO/IEC 23008-12): which of the two, and the size they declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from isoserve.models.errors import ImageFileError, TruncatedImageError

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_EITHER_BRANDS = (b"mif1", b"msf1", b"mif2")

_MAX_BOXES = 4096
_MAX_BRANDS = 64


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
    for kind, start, end in _boxes(body, 0, len(body)):
        if kind != b"meta":
            continue
        for kind_in, start_in, end_in in _boxes(body, start + 4, end):
            if kind_in != b"iprp":
                continue
            for kind_of_properties, first, last in _boxes(body, start_in, end_in):
                if kind_of_properties == b"ipco":
                    largest = max(largest, *_sizes(body, first, last), key=_area)
    if largest == (0, 0):
        raise ImageFileError("the file has no image with a size")
    return largest


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
