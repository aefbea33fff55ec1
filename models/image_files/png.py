"""PNG files (ISO/IEC 15948) as chunks: read, checked and brought down to what pixels need."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files.exif import UPRIGHT, read_orientation

MAGIC = b"\x89PNG\r\n\x1a\n"

MAX_CHUNKS = 100_000
"""A 20-megabyte file in the usual chunks of 8 KiB has 2,500."""

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_ANCILLARY = 0x20
"""Set in the first letter of a chunk that a reader may pass over."""

_RGB, _INDEXED = 2, 3
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, column step and row step of each interlace pass."""

_PIECE = 1 << 20


class Png(NamedTuple):
    """What the chunks say."""

    orientation: int
    body: bytes
    """A file of the header, palette, transparency and image data only."""


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) in pixels.

    Raises:
        ImageFileError: the file does not begin with a header chunk.
    """
    if body[12:16] != b"IHDR" or len(body) < 33:
        raise ImageFileError("the PNG does not begin with a header chunk")
    return int.from_bytes(body[16:20]), int.from_bytes(body[20:24])


def has_deep_colour(body: bytes) -> bool:
    """Whether it has more than one sample of sixteen bits a pixel, which are read twice."""
    return body[24] == 16 and body[25] != 0


def read_png(body: bytes) -> Png:
    """Read and check every chunk up to the end of the image.

    Pillow decodes without complaint what ends early or has a wrong checksum, so this looks
    itself: critical chunks must have the right CRC and the image data must hold every row.
    Ancillary chunks (text, profiles, animation) are left out, damaged or not.

    Raises:
        ImageFileError: a wrong checksum, an unknown or repeated critical chunk, image data in
            several places, no image data or palette, no end, or fewer rows than declared.
    """
    parts: dict[bytes, bytes] = {}
    data: list[bytes] = []
    orientation = UPRIGHT
    before = b""
    for kind, start, end in _chunks(body):
        payload = body[start:end]
        intact = zlib.crc32(payload, zlib.crc32(kind)) == int.from_bytes(body[end : end + 4])
        if not kind[0] & _ANCILLARY:
            name = kind.decode("ascii", "replace")
            if kind not in _CRITICAL:
                raise ImageFileError(f"the PNG has an unknown critical chunk {name!r}")
            if not intact:
                raise ImageFileError(f"the PNG's chunk {name} has a wrong checksum")
            if kind in parts:
                raise ImageFileError(f"the PNG has a second chunk {name}")
            if kind == b"IDAT" and data and before != b"IDAT":
                raise ImageFileError("the PNG has another chunk between those of its image data")
        before = kind
        if kind == b"IDAT":
            data.append(payload)
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and intact and not data:
            parts.setdefault(kind, payload)
        elif kind == b"eXIf" and intact:
            orientation = read_orientation(payload)
    header = _read_fields(parts.get(b"IHDR", b""))
    if header.colour == _INDEXED:
        _check_palette(parts.get(b"PLTE"))
    if header.depth == 16 and header.colour == _RGB and b"tRNS" in parts:
        # Pillow brings 16-bit colour down to its high bytes, but not the transparent colour.
        parts[b"tRNS"] = b"".join(b"\0" + parts[b"tRNS"][i : i + 1] for i in (0, 2, 4))
    pixels = b"".join(data)
    _check_rows(pixels, header.raw_bytes())
    chunks = [*parts.items(), (b"IDAT", pixels), (b"IEND", b"")]
    return Png(orientation, MAGIC + b"".join(_chunk(kind, payload) for kind, payload in chunks))


def _chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk's payload, up to and with IEND."""
    position = len(MAGIC)
    for _ in range(MAX_CHUNKS):
        start = position + 8
        end = start + int.from_bytes(body[position : position + 4])
        if end + 4 > len(body):
            raise TruncatedImageError(f"the PNG ends after {len(body)} bytes, before its end chunk")
        kind = body[position + 4 : start]
        yield kind, start, end
        if kind == b"IEND":
            return
        position = end + 4
    raise ImageFileError(f"the PNG has more than {MAX_CHUNKS} chunks")


class _Fields(NamedTuple):
    """The header chunk."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlaced: int

    def raw_bytes(self) -> int:
        """Size of the unpacked image data, filter bytes included."""
        bits = self.depth * _CHANNELS[self.colour]
        total = 0
        for left, top, step_x, step_y in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns = -(-(self.width - left) // step_x)
            rows = -(-(self.height - top) // step_y)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * bits + 7) // 8)
        return total


def _read_fields(payload: bytes) -> _Fields:
    if len(payload) != 13:
        raise ImageFileError(f"the PNG's header chunk has {len(payload)} bytes, not 13")
    fields = _Fields(*struct.unpack(">IIBBBBB", payload))
    if fields.colour not in _CHANNELS:
        raise ImageFileError(f"the PNG's colour type {fields.colour} does not exist")
    if fields.depth not in _DEPTHS[fields.colour]:
        raise ImageFileError(
            f"the PNG's colour type {fields.colour} does not exist with {fields.depth} bits"
        )
    if fields.compression or fields.filtering or fields.interlaced > 1:
        raise ImageFileError(
            f"the PNG's methods of compression, filtering and interlacing are {fields.compression},"
            f" {fields.filtering} and {fields.interlaced}; there are only 0, 0 and 0 or 1"
        )
    return fields


def _check_palette(palette: bytes | None) -> None:
    if palette is None:
        raise ImageFileError("the PNG's colours are indices, but it has no palette")
    if not palette or len(palette) % 3 or len(palette) > 768:
        raise ImageFileError(
            f"the PNG's palette has {len(palette)} bytes, not three for each of 1 to 256 colours"
        )


def _check_rows(data: bytes, wanted: int) -> None:
    """Unpack image data to see that all of it is there, a piece at a time."""
    unpack = zlib.decompressobj()
    found = 0
    try:
        for start in range(0, len(data), _PIECE):
            rest = data[start : start + _PIECE]
            while found < wanted and not unpack.eof:
                got = len(unpack.decompress(rest, _PIECE))
                found, rest = found + got, unpack.unconsumed_tail
                if not rest and got < _PIECE:
                    break
    except zlib.error as error:
        raise ImageFileError("the PNG's compressed image data is corrupt") from error
    if found < wanted:
        raise TruncatedImageError(f"the PNG's image data holds {found} of {wanted} bytes")


def _chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(payload, zlib.crc32(kind))
    return b"".join((len(payload).to_bytes(4), kind, payload, checksum.to_bytes(4)))
