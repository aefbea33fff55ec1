"""What decoding an image is expected to take, by its header."""

from __future__ import annotations

from typing import NamedTuple

from isoserve.models.card import InputSpec
from isoserve.models.image_files.cost import decode_cost, decode_memory
from isoserve.models.image_files.header import Header

LARGE_SECONDS = 0.002
"""An image of this cost or more is not decoded in a slot: it is about the work of one run of a
small network."""


LARGE_MEMORY = 8_000_000
"""Bytes, from which an image is not decoded in a slot either: slots share no bound of memory."""


class ImageCost(NamedTuple):
    """Seconds of a core, as :mod:`isoserve.models.image_files.cost` gives them, and bytes."""

    seconds: float
    memory: int
    header: Header | None = None
    """Of the file, where it has been read."""

    @property
    def is_large(self) -> bool:
        """Whether it is decoded by threads of its own."""
        return self.seconds >= LARGE_SECONDS or self.memory >= LARGE_MEMORY


FREE = ImageCost(0.0, 0)
"""Of pixels, which need no decoding."""


SMALL_PIXELS, SMALL_BYTES = 128 * 128, 4096
SMALL = ImageCost(LARGE_SECONDS / 4, 16 * SMALL_PIXELS)
"""Of an image of no more pixels and bytes: what it would cost exactly decides nothing, and to find
that out takes as long as to parse its header."""


UNKNOWN = ImageCost(0.25, 130_000_000)
"""Of an image whose header is only read where it is decoded: as if it were about the largest."""


def cost_of(header: Header, spec: InputSpec) -> ImageCost:
    """What it takes to bring an image file with this header to this input."""
    if not header.width:
        return UNKNOWN
    small = header.width * header.height <= SMALL_PIXELS and header.num_bytes <= SMALL_BYTES
    if small and not header.coding and header.decoding_bytes <= SMALL.memory:
        return ImageCost(*SMALL[:2], header)
    return ImageCost(decode_cost(header, spec), decode_memory(header, spec), header)
