"""Where a JPEG's scans end, and which of them hold its rows: asked where a decoder complains."""

from __future__ import annotations

import re
from typing import NamedTuple

from isoserve.models.image_files.jpeg import (
    COM,
    DAC,
    DHT,
    DQT,
    DRI,
    EOI,
    MARKER,
    MAX_SEGMENTS,
    SOS,
    Jpeg,
)

END = b"\xff\xd9"

_BETWEEN_SCANS = frozenset({DHT, DQT, DAC, DRI, COM, SOS, *range(0xE0, 0xF0)})
_RESTART = re.compile(rb"\xff[\xd0-\xd7](?!\xff[\xd0-\xd9])")
"""With data behind it."""
_FIRST_OF_SEGMENTS = 0xC0
_ALL_64 = (1 << 64) - 1


class Scans(NamedTuple):
    """A JPEG cut where its image ends, whatever comes behind."""

    body: bytes
    """With an end marker, and nothing after it."""
    ended: bool
    """Whether the end marker was there."""
    rows: bytes
    """The same without the scans that only refine: of a progressive JPEG all rows are in its
    first scans, coarsely."""
    refined: bool
    """Whether the scans come to the last bit of each coefficient."""


def read_scans(file: Jpeg) -> Scans:
    """Find the end of the image: the end marker, or the first marker that no scan may hold."""
    body = file.body
    if body.endswith(b"\0\0"):  # a tail that was never written; one zero may be image
        body = body.rstrip(b"\0") + b"\0"
    script = [_read_header(file.scan_header)]
    end, ended, rows = len(body), False, 0
    position = file.scan
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(body, position)
        if found is None:
            break
        marker, start = found[1][0], found.end()
        stop = start + int.from_bytes(body[start : start + 2])
        if marker < _FIRST_OF_SEGMENTS and file.restart_interval and _RESTART.search(body, start):
            position = start  # damage: a decoder goes on at the next restart marker
            continue
        if marker not in _BETWEEN_SCANS or not start + 2 <= stop <= len(body):
            end, ended = found.start(), marker == EOI
            break
        if marker == SOS:
            script.append(_read_header(body[start + 2 : stop]))
            if not rows and not script[-1].sends_rows:
                rows = found.start()
        position = stop
    image = body[:end]
    return Scans(
        image + END, ended, (body[:rows] if rows else image) + END, _is_refined(script, file)
    )


def count_restarts(body: bytes, file: Jpeg) -> int:
    """Restart markers in the data of the scans."""
    return len(_RESTART.findall(body, file.scan))


def count_intervals(file: Jpeg) -> int:
    """Into how many pieces restart markers divide the first scan (T.81, A.2 and E.1.4)."""
    header = file.frame_header
    factors = header[7 : 6 + 3 * header[5] : 3]
    interleaved = len(factors) > 1
    across = 8 * max(byte >> 4 or 1 for byte in factors) if interleaved else 8
    down = 8 * max(byte & 15 or 1 for byte in factors) if interleaved else 8
    blocks = -(-file.frame.width // across) * -(-file.frame.height // down)
    return -(-blocks // file.restart_interval)


class _ScanHeader(NamedTuple):
    components: bytes
    """Identifiers."""
    first: int
    last: int
    """Of the coefficients it sends, in zigzag order."""
    refines: bool
    low_bit: int

    @property
    def sends_rows(self) -> bool:
        return self.first == 0 and not self.refines


def _read_header(payload: bytes) -> _ScanHeader:
    count = payload[0] if payload else 0
    fields = payload[1 + 2 * count : 4 + 2 * count].ljust(3, b"\0")
    bits = fields[2]
    return _ScanHeader(
        payload[1 : 1 + 2 * count : 2], fields[0], min(fields[1], 63), bool(bits >> 4), bits & 15
    )


def _is_refined(script: list[_ScanHeader], file: Jpeg) -> bool:
    whole: dict[int, int] = {}
    for scan in script:
        if scan.low_bit == 0:
            sent = (2 << scan.last) - (1 << scan.first)
            for component in scan.components:
                whole[component] = whole.get(component, 0) | sent
    return len(whole) == file.frame.components and set(whole.values()) == {_ALL_64}
