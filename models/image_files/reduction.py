"""At what fraction of its size a JPEG is decoded: the smaller the input, the less is computed."""

from __future__ import annotations

from typing import Protocol

from isoserve.models.card import InputSpec

OVERSAMPLING = 4
"""A JPEG is decoded at the smallest DCT scale that is still this many times the input."""


class _Sized(Protocol):
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def reduction_of(image: _Sized, spec: InputSpec, *, turned: bool = False) -> int:
    """The power of two up to 8 that the sides of a JPEG are divided by while it is decoded.

    Args:
        image: its width and height as stored.
        spec: the input it is brought to.
        turned: whether it is shown on its side.
    """
    width, height = (spec.height, spec.width) if turned else (spec.width, spec.height)
    room = int(spec.crop * min(image.width / width, image.height / height)) // OVERSAMPLING
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1
