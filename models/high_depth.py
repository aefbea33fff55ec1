"""More than eight bits a sample -> eight: by the declared range, else by one stated rule.

Instruments write twelve bits into files of sixteen, whose high byte alone is almost black. The
rule: a file that declares its range (TIFF: bits a sample, or its largest value) is shown by it;
otherwise one whose brightest sample is under 4,096 is taken for twelve bits, and any other for
sixteen. Of sixteen bits the high byte is shown, as viewers do.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from isoserve.models.errors import ImageFormatError
from isoserve.models.image_rows import STRIP_PIXELS, ImageRows, rows_of_image

TWELVE_BITS = 12
DARK = 1 << TWELVE_BITS - 8
"""High bytes under this are those of samples that have no more than twelve bits."""

_BITS, _PHOTOMETRIC, _MAX_VALUE = 258, 262, 281
_WHITE_IS_ZERO = 0

_NATIVE = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTES = {";16B": ";16L", ";16L": ";16B", ";16N": f";16{_NATIVE}"}
"""What makes Pillow show the low bytes in place of the high ones."""


def rows_of_file(body: bytes, image: ImageFile.ImageFile) -> ImageRows:
    """Load an image that was just opened from ``body``, twelve bits of colour by their range.

    Pillow reads the high bytes of 16-bit colour only; where these are dark, the low ones are read
    too.

    Raises:
        ImageFormatError: samples that are no whole numbers.
        Exception: what Pillow raises on broken image data.
    """
    deep = bool(image.tile) and all(_with_other_bytes(tile.args) for tile in image.tile)
    image.load()
    if not deep or image.mode not in ("RGB", "RGBA"):
        return rows_of_any(image)
    colour: Any = image.getextrema()[:3]
    if max(brightest for _, brightest in colour) >= DARK:
        return rows_of_image(image)
    with Image.open(io.BytesIO(body), formats=(str(image.format),)) as again:
        of_gray = "LA;16B" in str(again.tile[0].args)
        again.tile = [tile._replace(args=_with_other_bytes(tile.args)) for tile in again.tile]
        again.load()

    def read(top: int, bottom: int) -> Image.Image:
        box = (0, top, image.width, bottom)
        values, low = np.array(image.crop(box)), np.asarray(again.crop(box))
        # Gray with transparency is read as if it were four bands: high, low, and both of alpha.
        low_colour = low[..., 1:2] if of_gray else low[..., :3]
        values[..., :3] = values[..., :3] << 4 | low_colour >> 4
        return Image.fromarray(values)

    return ImageRows(image.size, read)


def rows_of_any(image: Image.Image) -> ImageRows:
    """Of a loaded image of any mode.

    Raises:
        ImageFormatError: samples that are no whole numbers.
    """
    if image.mode == "F":
        raise ImageFormatError(
            "an image of floating-point samples is not supported: bring it to 8 or 16 bits"
        )
    return _rows_of_16_bits(image) if image.mode.startswith("I") else rows_of_image(image)


def _rows_of_16_bits(image: Image.Image) -> ImageRows:
    """RGB of gray of more than eight bits, or RGBA where a value is transparent."""
    step = max(STRIP_PIXELS // image.width, 1)
    tops = range(0, image.height, step)
    brightest = max(int(_gray(image, top, top + step).max(initial=0)) for top in tops)
    bits = _bits_of(image, brightest)
    white_is_zero = _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    transparent = image.info.get("transparency")

    def read(top: int, bottom: int) -> Image.Image:
        values = _gray(image, top, bottom)
        shown = np.minimum(values >> bits - 8, 255).astype(np.uint8)
        gray = Image.fromarray(255 - shown if white_is_zero else shown)
        if transparent is None:
            return gray.convert("RGB")
        alpha = Image.fromarray(np.where(values == transparent, np.uint8(0), np.uint8(255)))
        return Image.merge("RGBA", (gray, gray, gray, alpha))

    return ImageRows(image.size, read)


def _gray(image: Image.Image, top: int, bottom: int) -> NDArray[np.uint16]:
    strip = image.crop((0, top, image.width, min(bottom, image.height)))
    values: NDArray[Any] = np.asarray(strip)
    if values.dtype.itemsize != 2:
        values = np.clip(values, 0, 65535)
    return values.astype(np.uint16)


def _bits_of(image: Image.Image, brightest: int) -> int:
    declared = min(_tag(image, _BITS, 16), max(_tag(image, _MAX_VALUE, 65535), 255).bit_length())
    if 8 <= declared < 16 and brightest < 1 << declared:
        return declared
    return TWELVE_BITS if brightest < 1 << TWELVE_BITS else 16


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """A whole number of a TIFF's directory."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    value = image.tag_v2.get(tag, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default


def _with_other_bytes(args: Any) -> Any:
    """A tile's decoder arguments for the other byte of each sample; None where it has but one."""
    raw = args[0] if isinstance(args, tuple) and args else args
    if not isinstance(raw, str):
        return None
    if raw == "LA;16B":
        other = "RGBA"
    elif raw[:-4] in ("RGB", "RGBA") and raw[-4:] in _OTHER_BYTES:
        other = raw[:-4] + _OTHER_BYTES[raw[-4:]]
    else:
        return None
    return (other, *args[1:]) if isinstance(args, tuple) else other
