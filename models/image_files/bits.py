"""Numbers of any count of bits, as video codecs write them into their headers."""

from __future__ import annotations

from typing import NamedTuple


class Planes(NamedTuple):
    """How a codec holds its pictures, by its own header."""

    width: int
    height: int
    samples: float
    """A pixel: 1 gray, 1.5 or 2 where colour has fewer, 3."""
    sample_bytes: int
    """1, or 2 where a sample has more than eight bits."""


class Bits:
    """Reads bits, the most significant first; EOFError behind the last."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def read_variable(self) -> int:
        """A number whose length its leading zeros tell (uvlc, ue(v))."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros) if zeros < 32 else (1 << 32) - 1
