"""AVIF and HEIF files (ISO/IEC 23008-12): which of the two, and the size they declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from isoserve.models.errors import ImageFileError, LongHeaderError, TruncatedImageError
from isoserve.models.image_files import av1, hevc
from isoserve.models.image_files.bits import Planes

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_EITHER_BRANDS = (b"mif1", b"msf1", b"mif2")

_MAX_BOXES = 4096
_MAX_BRANDS = 64
_MAX_ITEMS = 4096
_LOOKED_AT = 1024
"""Bytes of an item, at whose beginning the frame size stands."""

_FEW_ITEMS, _FEW_BYTES = 64, 1 << 14
"""Are read at a glance: items or boxes, and bytes of what is said of them."""

_FILLING = 64
"""Pixels by which a coded picture may be wider and higher than what is shown of it."""


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


class Picture(NamedTuple):
    """What a file says of its pictures."""

    width: int
    height: int
    """The largest that is declared: the whole one, before it is turned, and before what only fills
    its last blocks is cut off."""
    decoding_bytes: int
    """That a decoder holds at its worst moment, the pixels it gives included."""


def read_avif(body: bytes, *, quick: bool = False) -> Picture:
    """Of an AVIF, by its own pictures too: they would be decoded whole.

    Args:
        quick: whether to give up where there are many parts to be read.

    Raises:
        LongHeaderError: given up.
        ImageFileError: no picture, none with a size, or a larger one than the boxes say.
    """
    boxes = _read_boxes(body, quick=quick)
    if quick and len(boxes.places) > _FEW_ITEMS:
        raise LongHeaderError
    pictures = [
        planes
        for in_idat, offset, length in boxes.places
        if (planes := av1.read_planes(_extent(body, offset + boxes.idat * in_idat, length)))
    ]
    if not pictures:
        raise ImageFileError("the AVIF has no picture")
    if max(planes.width * planes.height for planes in pictures) > boxes.width * boxes.height:
        raise ImageFileError("the AVIF's headers disagree on its size")
    samples = max(planes.samples * planes.sample_bytes for planes in pictures)
    bands = 1 if samples <= 2 and max(planes.samples for planes in pictures) == 1 else 3
    if boxes.has_auxiliary:
        samples += max(planes.sample_bytes for planes in pictures)
        bands = 4
    # libavif's RGB, and Pillow's copy of it.
    return _picture(boxes, samples + 2 * bands)


def read_heif(body: bytes, *, quick: bool = False) -> Picture:
    """Of a HEIF; the parameter sets of its codec count, too.

    Args:
        quick: as for :func:`read_avif`.

    Raises:
        LongHeaderError: given up.
        ImageFileError: none with a size, or a larger one than the boxes say.
    """
    boxes = _read_boxes(body, quick=quick)
    try:
        pictures = [planes for box in boxes.configurations for planes in hevc.read_planes(box)]
    except EOFError as error:
        raise ImageFileError("the HEIF's decoder configuration ends early") from error
    for planes in pictures:
        coded = max(planes.width - _FILLING, 0) * max(planes.height - _FILLING, 0)
        if coded > boxes.width * boxes.height:
            raise ImageFileError("the HEIF's headers disagree on its size")
    alpha = int(boxes.has_auxiliary)
    held = [_heif_bytes(planes, alpha) for planes in pictures or [Planes(0, 0, 1.5, 1)]]
    return _picture(boxes, max(held))


def _heif_bytes(planes: Planes, alpha: int) -> float:
    """A pixel: libheif's planes, those that it makes of them on the way, and RGB."""
    samples = (planes.samples + alpha) * planes.sample_bytes
    if planes.samples == 1:
        return samples + planes.sample_bytes * (3 * alpha + 1)
    if planes.samples > 1.5:
        return samples + (3 + alpha) * planes.sample_bytes + 3 + alpha
    in_eight_bits = planes.samples + alpha if planes.sample_bytes == 2 else 0
    return samples + in_eight_bits + 3 + alpha


class _Boxes(NamedTuple):
    width: int
    height: int
    configurations: list[bytes]
    """Of HEVC decoders."""
    has_auxiliary: bool
    """Whether there is a picture of alpha, depth or the like."""
    places: list[tuple[bool, int, int]]
    """(whether in ``idat``, offset, length) of each item's first extent."""
    idat: int
    """Where its contents begin."""


def _picture(boxes: _Boxes, bytes_a_pixel: float) -> Picture:
    return Picture(boxes.width, boxes.height, round(bytes_a_pixel * boxes.width * boxes.height))


def _read_boxes(body: bytes, *, quick: bool) -> _Boxes:
    largest, idat = (0, 0), 0
    configurations: list[bytes] = []
    places: list[tuple[bool, int, int]] = []
    has_auxiliary = False
    for kind, start, end in _in_meta(body, quick=quick):
        if kind == b"idat":
            idat = start
        elif kind == b"iloc":
            places = _locations(body[start:end])
        elif kind == b"iprp":
            for kind_of_properties, first, last in _boxes(body, start, end):
                if kind_of_properties != b"ipco":
                    continue
                for name, left, right in _boxes(body, first, last):
                    if name == b"ispe" and right - left >= 12:
                        size = body[left + 4 : left + 12]
                        largest = max(largest, (_number(size[:4]), _number(size[4:])), key=_area)
                    elif name == b"hvcC":
                        configurations.append(body[left:right])
                    has_auxiliary |= name == b"auxC"
    if largest == (0, 0):
        raise ImageFileError("the file has no image with a size")
    return _Boxes(*largest, configurations, has_auxiliary, places, idat)


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


def _in_meta(body: bytes, *, quick: bool) -> Iterator[tuple[bytes, int, int]]:
    left = _FEW_BYTES
    for number, (kind, start, end) in enumerate(_boxes(body, 0, len(body))):
        left -= end - start if kind == b"meta" else 0
        if quick and (left < 0 or number > _FEW_ITEMS):
            raise LongHeaderError
        if kind == b"meta":
            yield from _boxes(body, start + 4, end)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _number(octets: bytes) -> int:
    return int.from_bytes(octets)


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
