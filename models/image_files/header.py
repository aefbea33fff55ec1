"""Format and size of an image file, from its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from isoserve.models.errors import ImageFileError, ImageFormatError
from isoserve.models.image_files import bmp, gif, jpeg, png, webp

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that are read, by training and serving alike."""


class Header(NamedTuple):
    """What an image file says of itself."""

    format: Format
    width: int
    height: int


HEAD_BYTES = 12
"""So many of a file's first bytes tell its format."""


def format_of(head: bytes) -> Format | None:
    """The format that a file's first :data:`HEAD_BYTES` bytes, or more, are of."""
    if head.startswith(jpeg.MAGIC):
        return "JPEG"
    if head.startswith(png.MAGIC):
        return "PNG"
    if webp.is_webp(head):
        return "WEBP"
    if head.startswith(gif.MAGIC):
        return "GIF"
    return "BMP" if head.startswith(bmp.MAGIC) else None


def read_header(body: bytes) -> Header:
    """Read format and size; allocates and decodes nothing.

    Raises:
        ImageFormatError: the first bytes are of none of :data:`FORMATS`.
        ImageFileError: no size, or one of zero.
    """
    kind = format_of(body)
    if kind is None:
        raise ImageFormatError(
            f"the first bytes ({body[:8].hex(' ')}) are of no {', '.join(FORMATS)} image"
        )
    header = Header(kind, *_READ_SIZE[kind](body))
    if header.width == 0 or header.height == 0:
        raise ImageFileError(f"the {header.format} is {header.width} x {header.height} pixels")
    return header


_READ_SIZE: dict[Format, Callable[[bytes], tuple[int, int]]] = {
    "JPEG": jpeg.read_size,
    "PNG": png.read_size,
    "WEBP": webp.read_size,
    "GIF": gif.read_size,
    "BMP": bmp.read_size,
}
