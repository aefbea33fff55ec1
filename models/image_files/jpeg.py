"""JPEG files (ITU-T T.81, annex B) as a sequence of marker segments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from isoserve.models.errors import (
    ImageFileError,
    ImageFormatError,
    LongHeaderError,
    TruncatedImageError,
)
from isoserve.models.image_files.exif import UPRIGHT, read_orientation

MAGIC = b"\xff\xd8\xff"

MAX_SEGMENTS = 10_000
"""Before the first scan. Cameras write some ten; one file in the wild had 5,000."""

FEW_SEGMENTS = 256
"""Are read at a glance."""

MAX_JUNK = 1 << 16
"""Bytes between segments that belong to none; decoders skip them, and so does this."""

# Fill bytes, stuffed zeros, restart markers and TEM carry nothing and have no length.
MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])", re.DOTALL)
_CARRYING = frozenset((*range(0x02, 0xD0), *range(0xD8, 0xFF)))
SOI, EOI, SOS, DHT, DQT, DAC, DRI, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xCC, 0xDD, 0xFE
_APP1 = 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ARITHMETIC_FRAMES = frozenset(range(0xC9, 0xD0)) - {0xCC}
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xCA})
_LOSSLESS_FRAMES = frozenset({0xC3, 0xCB})
_HIERARCHICAL_FRAMES = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
_METADATA = frozenset({*range(0xE1, 0xF0), COM}) - {0xEE}
"""APP0 and APP14 stay: decoders tell the colour space by them."""


class Frame(NamedTuple):
    """What the frame header says."""

    width: int
    height: int
    components: int
    """1 gray, 3 colour, 4 CMYK or YCCK."""
    coding: Literal["", "progressive", "arithmetic"]
    coefficients: int
    """Held by a decoder all at once; 0 where the image comes row by row."""


class Segments(NamedTuple):
    """What the segments before the first scan say, and where they are."""

    frame: Frame
    frame_header: bytes
    interval: int
    """Blocks between restart markers; 0: none are sent."""
    scan_header: bytes
    exif: list[tuple[int, int]]
    """From where to where the file is metadata of this kind."""
    kept: list[tuple[int, int]]
    """From where to where it is neither metadata nor between its segments; the last part ends where
    the data of the first scan begin."""


class Jpeg(NamedTuple):
    """What the segments before the first scan say."""

    frame: Frame
    frame_header: bytes
    restart_interval: int
    """Blocks between restart markers, after which image goes on behind a damaged place; 0: none
    are sent."""
    orientation: int
    body: bytes
    """The file without metadata and without what lies between its segments: all that pixels
    depend on."""
    scan: int
    """Where in ``body`` the data of the first scan begin."""
    scan_header: bytes
    """The first scan's."""


def read_segments(body: bytes, *, quick: bool = False) -> Segments:
    """Read all segments before the first scan.

    Args:
        quick: whether to give up behind :data:`FEW_SEGMENTS`.

    Raises:
        ImageFormatError: a kind of JPEG that is not supported.
        ImageFileError: no frame header or no scan.
        LongHeaderError: given up.
    """
    frame, marker_of_frame, interval, scan_header, single = b"", 0, 0, b"", True
    exif, kept, from_here, position = [], [], 0, 2
    for number, (marker, start, end) in enumerate(segments(body)):
        if quick and number == FEW_SEGMENTS:
            raise LongHeaderError
        if start - 4 != position:  # what lies between two segments belongs to neither
            kept.append((from_here, position))
            from_here = start - 4
        position = end
        if marker in _METADATA:
            if marker == _APP1 and body.startswith(b"Exif\0\0", start):
                exif.append((start, end))
            kept.append((from_here, start - 4))
            from_here = end
        elif marker in _FRAMES and not frame:
            frame, marker_of_frame = body[start:end], marker
        elif marker == DRI:
            interval = int.from_bytes(body[start:end])
        elif marker == SOS:
            scan_header = body[start:end]
            single = len(frame) < 6 or body[start] >= frame[5]
    fields = _read_frame(frame, marker_of_frame, single)
    kept.append((from_here, position))
    return Segments(fields, frame, interval, scan_header, exif, kept)


def read_jpeg(body: bytes, read: Segments | None = None) -> Jpeg:
    """The file without its metadata.

    Args:
        read: its segments, where they have been read.

    Raises:
        ImageFileError, ImageFormatError: as :func:`read_segments`.
    """
    read = read or read_segments(body)
    found = (read_orientation(body[start:end]) for start, end in read.exif)
    orientation = next((each for each in found if each != UPRIGHT), UPRIGHT)
    scan = read.kept[-1][1]
    if len(read.kept) > 1:
        kept = [body[start:end] for start, end in read.kept]
        body, scan = b"".join((*kept, body[scan:])), sum(map(len, kept))
    return Jpeg(
        read.frame, read.frame_header, read.interval, orientation, body, scan, read.scan_header
    )


def has_more_scans(body: bytes, limit: int) -> bool:
    """Whether a decoder will meet more than ``limit`` scans, or :data:`MAX_SEGMENTS` segments."""
    # Entropy-coded data never holds these two bytes, so their count is never too low.
    if body.count(b"\xff\xda") <= limit:
        return False
    scans, position = 0, 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(body, position)
        if found is None or found[1][0] in (SOI, EOI):
            return False
        scans += found[1][0] == SOS
        if scans > limit:
            return True
        position = found.end() + int.from_bytes(body[found.end() : found.end() + 2])
    return True


def codes_a_value_twice(body: bytes) -> bool:
    """Whether a Huffman table before the first scan has two codes for one value.

    No encoder makes one, so such a file has lost nothing by accident.
    """
    for marker, start, end in segments(body):
        while marker == DHT and start + 17 <= end:
            values = start + 17
            start = values + sum(body[values - 16 : values])
            if len(set(body[values:start])) < start - values:
                return True
    return False


def segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's payload, up to and with the first scan's header."""
    position, junk, size = 2, MAX_JUNK, len(body)
    for _ in range(MAX_SEGMENTS):
        start = position + 2
        # As a rule the next marker is right here, and a search would cost as much as all the rest.
        if start > size or body[position] != 0xFF or (marker := body[start - 1]) not in _CARRYING:
            found = MARKER.search(body, position, position + junk)
            if found is None:
                if position + junk < size:
                    raise ImageFileError(f"the JPEG has over {MAX_JUNK} bytes between its segments")
                raise TruncatedImageError(_ends_early(body))
            start = found.end()
            marker = body[start - 1]
            junk -= start - 2 - position
        if marker in (SOI, EOI):
            raise ImageFileError("the JPEG has a start or end marker before its first scan")
        position = start + int.from_bytes(body[start : start + 2])
        if position < start + 2:
            raise ImageFileError("the JPEG has a segment of impossible length")
        if position > size:
            raise TruncatedImageError(_ends_early(body))
        yield marker, start + 2, position
        if marker == SOS:
            return
    raise ImageFileError(f"the JPEG has more than {MAX_SEGMENTS} segments before its first scan")


def _ends_early(body: bytes) -> str:
    return f"the JPEG ends after {len(body)} bytes, before its first scan"


def _read_frame(payload: bytes, marker: int, single_scan: bool) -> Frame:
    if not marker:
        raise ImageFileError("the JPEG has no frame header")
    if len(payload) < 6:
        raise ImageFileError("the JPEG's frame header is too short")
    precision, components = payload[0], payload[5]
    if marker in _HIERARCHICAL_FRAMES:
        raise ImageFormatError("a hierarchical JPEG is not supported")
    if marker in _LOSSLESS_FRAMES:
        raise ImageFormatError("a lossless JPEG is not supported")
    if precision != 8:
        raise ImageFormatError(
            f"a JPEG of {precision} bits a sample is not supported, only one of 8"
        )
    progressive = marker in _PROGRESSIVE_FRAMES
    return Frame(
        int.from_bytes(payload[3:5]),
        int.from_bytes(payload[1:3]),
        components,
        "arithmetic" if marker in _ARITHMETIC_FRAMES else "progressive" if progressive else "",
        _samples(payload) if progressive or not single_scan else 0,
    )


def _samples(payload: bytes) -> int:
    """Samples of all components together, each at its own subsampling (T.81, A.1.1)."""
    pixels = int.from_bytes(payload[1:3]) * int.from_bytes(payload[3:5])
    factors = payload[7 : 6 + 3 * payload[5] : 3]
    across = [byte >> 4 or 1 for byte in factors]
    down = [byte & 15 or 1 for byte in factors]
    if not factors:
        return pixels
    whole = max(across) * max(down)
    return sum(pixels * h * v // whole for h, v in zip(across, down, strict=True))
