"""At what fraction of its size a JPEG is decoded: the smaller the input, the less is computed.

Measured on 60 photographs and 31 of clothes, at their own quality and at 75 and 90, enlarged once,
1.5 and twice, brought to inputs of a half to an eighth of their size: the mean difference from
decoding whole is about ``2 * sqrt(d) / o`` levels of 255, where ``d`` is the bytes a pixel of the
file, which tell how much detail there is, and ``o`` how many times the decoded image still is the
input. So ``o`` is chosen to keep it near 0.2.
"""

from __future__ import annotations

import math
from typing import Protocol

from isoserve.models.card import InputSpec

SKEW = 0.2
"""Levels of 255, on the mean, that decoding at a fraction may change."""

SKEW_AT_ONE = 2.0
"""Levels at one byte a pixel, decoded at the input's own size."""

LEAST_OVERSAMPLING, MOST_OVERSAMPLING = 1.5, 6.0
"""Of a file without detail, and of one with so much that whole decoding would cost more than it is
worth."""


SIMPLE_UPSAMPLING = 3.0
"""Where the decoded image is so many times the input, it does not matter whether colours that are
stored at half the size are interpolated or repeated: measured as above, the mean difference is 0.45
levels at the input's own size, 0.21 at twice and 0.14 at three times it."""


class _Sized(Protocol):
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


def reduction_of(image: _Sized, spec: InputSpec, num_bytes: int, *, turned: bool = False) -> int:
    """The power of two up to 8 that the sides of a JPEG are divided by while it is decoded.

    Args:
        image: its width and height as stored.
        spec: the input it is brought to.
        num_bytes: of the file, without metadata where that is known.
        turned: whether it is shown on its side.
    """
    detail = math.sqrt(num_bytes / (image.width * image.height))
    oversampling = min(max(SKEW_AT_ONE * detail / SKEW, LEAST_OVERSAMPLING), MOST_OVERSAMPLING)
    room = _oversampling(image, spec, turned) / oversampling
    return 8 if room >= 8 else 4 if room >= 4 else 2 if room >= 2 else 1


def upsamples_simply(
    image: _Sized, spec: InputSpec, reduction: int, *, turned: bool = False
) -> bool:
    """Whether colours at half the size may be repeated, which takes a fifteenth less time."""
    return _oversampling(image, spec, turned) / reduction >= SIMPLE_UPSAMPLING


def _oversampling(image: _Sized, spec: InputSpec, turned: bool) -> float:
    """How many times the input the part of the image is that it shows."""
    width, height = (spec.height, spec.width) if turned else (spec.width, spec.height)
    return spec.crop * min(image.width / width, image.height / height)
