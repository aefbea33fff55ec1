"""JPEG files (ITU-T T.81, annex B) as a sequence of marker segments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from models.errors import ImageFileError, TruncatedImageError
from models.image_files.exif import UPRIGHT, read_orientation

MAGIC = b"\xff\xd8\xff"

MAX_SEGMENTS = 10_000
"""Before the first scan. Cameras write some ten; one file in the wild had 5,000."""

# Fill bytes, stuffed zeros, restart markers and TEM carry nothing and have no length.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])", re.DOTALL)
_SOI, _EOI, _SOS, _DHT, _COM, _APP1 = 0xD8, 0xD9, 0xDA, 0xC4, 0xFE, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC_FRAMES = frozenset(range(0xC9, 0xD0)) - {0xCC}
_METADATA = frozenset({*range(0xE1, 0xF0), _COM}) - {0xEE}
"""APP0 and APP14 stay: decoders tell the colour space by them."""


class Jpeg(NamedTuple):
    """What the segments before the first scan say."""

    width: int
    height: int
    components: int
    """1 gray, 3 colour, 4 CMYK or YCCK."""
    orientation: int
    body: bytes
    """The file without its metadata segments: all that pixels depend on."""


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        ImageFileError: no frame header.
    """
    for marker, start, end in _segments(body):
        if marker in _FRAMES:
            width, height, _ = _read_frame(body[start:end])
            return width, height
    raise ImageFileError("the JPEG has no frame header")


def read_jpeg(body: bytes) -> Jpeg:
    """Read all segments before the first scan.

    Raises:
        ImageFileError: no frame header or no scan.
    """
    frame, orientation, kept, metadata = None, UPRIGHT, [], False
    position = 2
    for marker, start, end in _segments(body):
        if marker in _FRAMES and frame is None:
            frame = _read_frame(body[start:end])
        if marker == _APP1 and orientation == UPRIGHT and body.startswith(b"Exif\0\0", start):
            orientation = read_orientation(body[start:end])
        if marker in _METADATA:
            kept.append(body[position : start - 4])
            metadata, position = True, end
    if frame is None:
        raise ImageFileError("the JPEG has no frame header")
    if metadata:
        body = b"".join([body[:2], *kept, body[position:]])
    return Jpeg(*frame, orientation, body)


def count_scans(body: bytes) -> int:
    """Scans up to the end of the image, as a decoder will meet them."""
    # Entropy-coded data never holds these two bytes, so their count is never too low.
    if body.count(b"\xff\xda") <= 1:
        return 1
    scans = 0
    position = 2
    while found := _MARKER.search(body, position):
        marker, position = found[1][0], found.end()
        if marker in (_SOI, _EOI):
            break
        scans += marker == _SOS
        position += int.from_bytes(body[position : position + 2])
    return scans


def may_lack_rows(body: bytes) -> bool:
    """Whether uniform mid-gray at the end of this image means that rows are missing.

    Not where the file is arithmetic-coded, since that decoder reads on past the end by design,
    and not where a Huffman table codes one value twice: no encoder does, so such a file lost
    nothing by accident and is shown as viewers show it.
    """
    for marker, start, end in _segments(body):
        if marker in _ARITHMETIC_FRAMES:
            return False
        while marker == _DHT and start + 17 <= end:
            values = start + 17 + sum(body[start + 1 : start + 17])
            table = body[start + 17 : values]
            if len(set(table)) < len(table):
                return False
            start = values
    return True


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's payload, up to and with the first scan's header."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, position)
        if found is None:
            raise TruncatedImageError(
                f"the JPEG ends after {len(body)} bytes, before its first scan"
            )
        marker, start = found[1][0], found.end()
        if marker in (_SOI, _EOI):
            raise ImageFileError("the JPEG has a start or end marker before its first scan")
        position = start + int.from_bytes(body[start : start + 2])
        if position < start + 2:
            raise ImageFileError("the JPEG has a segment of impossible length")
        if position > len(body):
            raise TruncatedImageError(
                f"the JPEG ends after {len(body)} bytes, before its first scan"
            )
        yield marker, start + 2, position
        if marker == _SOS:
            return
    raise ImageFileError(f"the JPEG has more than {MAX_SEGMENTS} segments before its first scan")


def _read_frame(payload: bytes) -> tuple[int, int, int]:
    """(width, height, components) of a frame header."""
    if len(payload) < 6:
        raise ImageFileError("the JPEG's frame header is too short")
    height, width = int.from_bytes(payload[1:3]), int.from_bytes(payload[3:5])
    return width, height, payload[5]
