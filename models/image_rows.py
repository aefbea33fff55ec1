"""An image's pixels as RGB or RGBA, a strip of rows at a time.

Brought to RGB, made ready for the resize and kept beside what it was made of, a whole image of 20
megapixels took up to 540 MB; in strips it takes what its decoder holds, and a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.resampling import resize_across, resize_down

STRIP_PIXELS = 1 << 18
"""So many fit a core's own cache."""

SMALL_PIXELS = 1 << 16
"""An image of no more is Pillow's to resize, to the bit."""

_SUPPORT = 2.0
"""Of the bicubic kernel, in pixels of the smaller of both images."""

_Box = tuple[float, float, float, float]


class ImageRows(NamedTuple):
    """What can be read of an image."""

    size: tuple[int, int]
    """(width, height)."""
    read: Callable[[int, int], Image.Image]
    """Rows [top, bottom) as an image in RGB or RGBA."""


def rows_of_image(image: Image.Image) -> ImageRows:
    """Of any Pillow mode of eight bits or fewer; RGBA where it has transparency."""

    def read(top: int, bottom: int) -> Image.Image:
        return to_rgb_or_rgba(image.crop((0, top, image.width, bottom)))

    return ImageRows(image.size, read)


def rows_of_array(pixels: NDArray[np.uint8]) -> ImageRows:
    """Of uint8 [H, W, 3] RGB, or [H, W, 4] CMYK, inverted as in JPEG files."""

    def read(top: int, bottom: int) -> Image.Image:
        strip = pixels[top:bottom]
        if strip.shape[2] == 3:
            return Image.fromarray(strip)
        return Image.frombytes("CMYK", strip.shape[1::-1], (255 - strip).tobytes()).convert("RGB")

    return ImageRows((pixels.shape[1], pixels.shape[0]), read)


def resize_rows(rows: ImageRows, size: tuple[int, int], box: _Box) -> Image.Image:
    """The antialiased bicubic resize of the box (left, top, right, bottom) to (width, height).

    Two passes, across and then down, with rounding between them. Of an image that is higher than
    it is wide Pillow may go down first, which is another value in one pixel of ten; here the order
    is the same for all large images, in whatever form they come.
    """
    width, height = rows.size
    if width * height <= SMALL_PIXELS:
        return rows.read(0, height).resize(size, Image.Resampling.BICUBIC, box)
    step = max(STRIP_PIXELS // max(width, size[0]), 1)
    left, top, right, bottom = box
    reach = _SUPPORT * max((bottom - top) / size[1], 1.0) + 1
    first, last = max(math.floor(top - reach), 0), min(math.ceil(bottom + reach), height)
    narrow = None
    for start in range(first, last, step):
        strip = rows.read(start, min(start + step, last))
        if strip.mode == "RGBA":
            strip = strip.convert("RGBa")  # so that the colour of what is not seen has no weight
        strip = resize_across(strip, size[0], left, right)
        if narrow is None:
            narrow = Image.new(strip.mode, (size[0], last - first))
        narrow.paste(strip, (0, start - first))
    assert narrow is not None
    image = resize_down(narrow, size[1], top - first, bottom - first)
    return image.convert("RGBA") if image.mode == "RGBa" else image


def to_rgb_or_rgba(image: Image.Image) -> Image.Image:
    """Bring any Pillow mode of eight bits or fewer to RGB, or to RGBA where it has transparency."""
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
