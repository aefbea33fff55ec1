"""Format and size of an image file, from its first bytes."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from models.errors import ImageFileError, ImageFormatError
from models.image_files import bmp, gif, jpeg, png, webp

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that are read, by training and serving alike."""


class Header(NamedTuple):
    """What an image file says of itself."""

    format: Format
    width: int
    height: int


def read_header(body: bytes) -> Header:
    """Read format and size; allocates and decodes nothing.

    Raises:
        ImageFormatError: the first bytes are of none of :data:`FORMATS`.
        ImageFileError: no size, or one of zero.
    """
    if body.startswith(jpeg.MAGIC):
        header = Header("JPEG", *jpeg.read_size(body))
    elif body.startswith(png.MAGIC):
        header = Header("PNG", *png.read_size(body))
    elif webp.is_webp(body):
        header = Header("WEBP", *webp.read_size(body))
    elif body.startswith(gif.MAGIC):
        header = Header("GIF", *gif.read_size(body))
    elif body.startswith(bmp.MAGIC):
        header = Header("BMP", *bmp.read_size(body))
    else:
        raise ImageFormatError(
            f"the first bytes ({body[:8].hex(' ')}) are of no {', '.join(FORMATS)} image"
        )
    if header.width == 0 or header.height == 0:
        raise ImageFileError(f"the {header.format} is {header.width} x {header.height} pixels")
    return header
