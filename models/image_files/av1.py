"""The frame size within AV1 data (AV1 bitstream, 5.5): an AVIF's boxes may claim a smaller one."""

from __future__ import annotations

_SEQUENCE_HEADER = 1
_MAX_UNITS = 8
_LOOKED_AT = 256
"""Bytes of a sequence header that are read; the size stands within its first forty."""


def frame_size(data: bytes) -> tuple[int, int] | None:
    """(width, height), the largest a frame may have, of the first sequence header; None without."""
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
                return _read_sequence(_Bits(data[position : position + _LOOKED_AT]))
            except EOFError:
                return None
        position += length
    return None


class _Bits:
    """Reads bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def read_variable(self) -> None:
        """Pass over a number whose length its leading zeros tell (uvlc)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros < 32:
            self.read(zeros)


def _read_sequence(bits: _Bits) -> tuple[int, int]:
    bits.read(3 + 1)  # profile, still picture
    if bits.read(1):  # the short header of a still picture
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
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
