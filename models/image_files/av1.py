"""How large pictures are within AV1 data (AV1 bitstream, 5.5): AVIF's boxes may claim less."""

from __future__ import annotations

from isoserve.models.image_files.bits import Bits, Planes

_SEQUENCE_HEADER = 1
_MAX_UNITS = 8
_LOOKED_AT = 256
"""Bytes of a sequence header that are read; what is asked stands within its first sixty."""

_SRGB = (1, 13, 0)
"""Primaries, transfer and matrix that mean RGB, with all of its colour."""


def read_planes(data: bytes) -> Planes | None:
    """The largest that a frame may have, of the first sequence header; None without one."""
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            return None
        header = data[position]
        kind, extended, sized = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        position += 1 + extended
        length = len(data) - position
        if sized:
            length, position = _leb128(data, position)
        if kind == _SEQUENCE_HEADER:
            try:
                return _read_sequence(Bits(data[position : position + _LOOKED_AT]))
            except EOFError:
                return None
        position += length
    return None


def _read_sequence(bits: Bits) -> Planes:
    profile = bits.read(3)
    bits.read(1)  # still picture
    still = bits.read(1)  # the short header
    if still:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if not still and bits.read(1):  # frame identifiers
        bits.read(4 + 3)
    bits.read(3)
    if not still:
        _skip_tools(bits)
    bits.read(3)
    samples, sample_bytes = _read_colour(bits, profile)
    return Planes(width, height, samples, sample_bytes)


def _read_colour(bits: Bits, profile: int) -> tuple[float, int]:
    """(samples a pixel, bytes a sample): ``color_config``."""
    deep = bits.read(1)
    twelve = bits.read(1) if profile == 2 and deep else 0
    if profile != 1 and bits.read(1):
        return 1.0, 1 + deep
    described = bits.read(1)
    colour = (bits.read(8), bits.read(8), bits.read(8)) if described else (2, 2, 2)
    if profile == 1 or colour == _SRGB:
        return 3.0, 1 + deep
    if profile == 0:
        return 1.5, 1 + deep
    if not twelve:
        return 2.0, 1 + deep
    bits.read(1)
    if not bits.read(1):
        return 3.0, 2
    return (1.5 if bits.read(1) else 2.0), 2


def _skip_tools(bits: Bits) -> None:
    bits.read(4)
    ordered = bits.read(1)
    if ordered:
        bits.read(2)
    # Tools for screen contents are chosen by the frame, or forced; then so are whole vectors.
    if (bits.read(1) or bits.read(1)) and not bits.read(1):
        bits.read(1)
    if ordered:
        bits.read(3)


def _skip_operating_points(bits: Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(32)
        bits.read(32)
        if bits.read(1):
            bits.read_variable()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = 0
    for place, byte in enumerate(data[position : position + 8]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, position + place + 1
    return value, position + 8
