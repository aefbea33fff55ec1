"""How large pictures are within HEVC data (ITU-T H.265, 7.3.2.2): HEIF's boxes may claim less."""

from __future__ import annotations

from isoserve.models.image_files.bits import Bits, Planes

_SEQUENCE = 33
_LOOKED_AT = 512
_CONFIGURATION_BYTES = 23
"""Of an ``hvcC`` box before its parameter sets (ISO/IEC 14496-15, 8.3.2.1)."""

_PROFILE_BITS, _LEVEL_BITS = 88, 8
_SAMPLES = {0: 1.0, 1: 1.5, 2: 2.0, 3: 3.0}
"""Chroma format -> samples a pixel."""


def read_planes(configuration: bytes) -> list[Planes]:
    """Those of the sequence parameter sets in an ``hvcC`` box."""
    found: list[Planes] = []
    position = _CONFIGURATION_BYTES
    for _ in range(configuration[position - 1] if len(configuration) >= position else 0):
        kind = configuration[position] & 63 if position < len(configuration) else 0
        count = int.from_bytes(configuration[position + 1 : position + 3])
        position += 3
        for _ in range(count):
            length = int.from_bytes(configuration[position : position + 2])
            unit = configuration[position + 2 : position + 2 + min(length, _LOOKED_AT)]
            position += 2 + length
            if position > len(configuration):
                return found
            if kind == _SEQUENCE:
                found.append(_read_sequence(Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))))
    return found


def _read_sequence(bits: Bits) -> Planes:
    bits.read(4)
    layers = bits.read(3)
    bits.read(1 + _PROFILE_BITS + _LEVEL_BITS)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for profile, level in present:
        bits.read(_PROFILE_BITS * profile + _LEVEL_BITS * level)
    bits.read_variable()
    chroma = bits.read_variable()
    if chroma == 3:
        bits.read(1)
    width, height = bits.read_variable(), bits.read_variable()
    if bits.read(1):  # what is cut off at each side
        for _ in range(4):
            bits.read_variable()
    deep = max(bits.read_variable(), bits.read_variable()) > 0
    return Planes(width, height, _SAMPLES.get(chroma, 3.0), 1 + deep)
