"""JPEG files (ITU-T T.81, annex B) as a sequence of marker segments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files.exif import UPRIGHT, read_orientation

MAGIC = b"\xff\xd8\xff"

MAX_SEGMENTS = 10_000
"""Before the first scan. Cameras write some ten; one file in the wild had 5,000."""

MAX_JUNK = 1 << 16
"""Bytes between segments that belong to none; decoders skip them, and so does this."""

# Fill bytes, stuffed zeros, restart markers and TEM carry nothing and have no length.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])", re.DOTALL)
_SOI, _EOI, _SOS, _DHT, _DRI, _COM, _APP1 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xFE, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC_FRAMES = frozenset(range(0xC9, 0xD0)) - {0xCC}
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_METADATA = frozenset({*range(0xE1, 0xF0), _COM}) - {0xEE}
"""APP0 and APP14 stay: decoders tell the colour space by them."""


class Frame(NamedTuple):
    """What the frame header says."""

    width: int
    height: int
    precision: int
    """Bits a sample."""
    components: int
    """1 gray, 3 colour, 4 CMYK or YCCK."""
    coding: Literal["", "progressive", "arithmetic"]
    coefficients: int
    """Held by a decoder all at once; 0 where the image comes row by row."""


class Jpeg(NamedTuple):
    """What the segments before the first scan say."""

    width: int
    height: int
    components: int
    """1 gray, 3 colour, 4 CMYK or YCCK."""
    arithmetic: bool
    """Arithmetic coding in place of Huffman's."""
    restarts: bool
    """Has restart markers: image goes on after a damaged place."""
    orientation: int
    body: bytes
    """The file without its metadata segments: all that pixels depend on."""


def read_frame(body: bytes) -> Frame:
    """Read the frame header, and whether the first scan holds all of its components.

    Raises:
        ImageFileError: no frame header, or no scan.
    """
    frame, several_scans = None, False
    for marker, start, end in _segments(body):
        if marker in _FRAMES and frame is None:
            frame, payload = marker, body[start:end]
        elif marker == _SOS and frame is not None:
            several_scans = body[start] < payload[5] if len(payload) > 5 else False
    if frame is None:
        raise ImageFileError("the JPEG has no frame header")
    width, height, components = _read_frame(payload)
    progressive = frame in _PROGRESSIVE_FRAMES
    arithmetic = frame in _ARITHMETIC_FRAMES
    return Frame(
        width,
        height,
        payload[0],
        components,
        "arithmetic" if arithmetic else "progressive" if progressive else "",
        _samples(payload) if progressive or several_scans else 0,
    )


def read_jpeg(body: bytes) -> Jpeg:
    """Read all segments before the first scan.

    Raises:
        ImageFileError: no frame header, no scan, or a tail that was never written.
    """
    frame, arithmetic, restarts, orientation = None, False, False, UPRIGHT
    kept, position, end = [], 2, 0
    for marker, start, end in _segments(body):
        if marker in _FRAMES and frame is None:
            frame, arithmetic = _read_frame(body[start:end]), marker in _ARITHMETIC_FRAMES
        elif marker in _METADATA:
            if marker == _APP1 and orientation == UPRIGHT and body.startswith(b"Exif\0\0", start):
                orientation = read_orientation(body[start:end])
            kept.append(body[position : start - 4])
            position = end
        elif marker == _DRI:
            restarts = any(body[start:end])
    if frame is None:
        raise ImageFileError("the JPEG has no frame header")
    if body.endswith(b"\0\0") and body.find(b"\xff\xd9", end) < 0:
        raise TruncatedImageError("the JPEG has zeros in place of its end")
    if kept:
        body = b"".join((body[:2], *kept, body[position:]))
    return Jpeg(*frame, arithmetic, restarts, orientation, body)


def has_more_scans(body: bytes, limit: int) -> bool:
    """Whether a decoder will meet more than ``limit`` scans, or :data:`MAX_SEGMENTS` segments."""
    # Entropy-coded data never holds these two bytes, so their count is never too low.
    if body.count(b"\xff\xda") <= limit:
        return False
    scans, position = 0, 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, position)
        if found is None or found[1][0] in (_SOI, _EOI):
            return False
        scans += found[1][0] == _SOS
        if scans > limit:
            return True
        position = found.end() + int.from_bytes(body[found.end() : found.end() + 2])
    return True


def codes_a_value_twice(body: bytes) -> bool:
    """Whether a Huffman table before the first scan has two codes for one value.

    No encoder makes one, so such a file has lost nothing by accident.
    """
    for marker, start, end in _segments(body):
        while marker == _DHT and start + 17 <= end:
            values = start + 17
            start = values + sum(body[values - 16 : values])
            if len(set(body[values:start])) < start - values:
                return True
    return False


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's payload, up to and with the first scan's header."""
    position, junk = 2, MAX_JUNK
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(body, position, position + junk)
        if found is None:
            if position + junk < len(body):
                raise ImageFileError(f"the JPEG has over {MAX_JUNK} bytes between its segments")
            raise TruncatedImageError(_ends_early(body))
        marker, start = found[1][0], found.end()
        if marker in (_SOI, _EOI):
            raise ImageFileError("the JPEG has a start or end marker before its first scan")
        junk -= start - 2 - position
        position = start + int.from_bytes(body[start : start + 2])
        if position < start + 2:
            raise ImageFileError("the JPEG has a segment of impossible length")
        if position > len(body):
            raise TruncatedImageError(_ends_early(body))
        yield marker, start + 2, position
        if marker == _SOS:
            return
    raise ImageFileError(f"the JPEG has more than {MAX_SEGMENTS} segments before its first scan")


def _ends_early(body: bytes) -> str:
    return f"the JPEG ends after {len(body)} bytes, before its first scan"


def _samples(payload: bytes) -> int:
    """Samples of all components together, each at its own subsampling (T.81, A.1.1)."""
    width, height, components = _read_frame(payload)
    factors = payload[7 : 6 + 3 * components : 3]
    across = [byte >> 4 or 1 for byte in factors]
    down = [byte & 15 or 1 for byte in factors]
    if not factors:
        return width * height
    whole = max(across) * max(down)
    return sum(width * height * h * v // whole for h, v in zip(across, down, strict=True))


def _read_frame(payload: bytes) -> tuple[int, int, int]:
    """(width, height, components) of a frame header."""
    if len(payload) < 6:
        raise ImageFileError("the JPEG's frame header is too short")
    height, width = int.from_bytes(payload[1:3]), int.from_bytes(payload[3:5])
    return width, height, payload[5]
