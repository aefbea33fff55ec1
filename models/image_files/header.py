"""Format and size of an image file, from its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from isoserve.models.errors import ImageFileError, ImageFormatError
from isoserve.models.image_files import bmp, gif, jpeg, png, webp

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP"]

FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that are read, by training and serving alike."""


Coding = Literal["", "progressive", "arithmetic", "lossless", "run-length"]
"""How a format codes its pixels, where it has a slower way than its usual one."""


class Header(NamedTuple):
    """What an image file says of itself."""

    format: Format
    width: int
    height: int
    num_bytes: int = 0
    """Of the file."""
    coding: Coding = ""
    coefficients: int = 0
    """Values that a decoder must hold all at once before the first pixel is known: none of a JPEG
    that is sent row by row, three a pixel of a progressive one without chroma subsampling."""


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
    header = _READ[kind](body)
    if header.width == 0 or header.height == 0:
        raise ImageFileError(f"the {header.format} is {header.width} x {header.height} pixels")
    return header


def _jpeg(body: bytes) -> Header:
    frame = jpeg.read_frame(body)
    return Header("JPEG", frame.width, frame.height, len(body), frame.coding, frame.coefficients)


def _png(body: bytes) -> Header:
    return Header("PNG", *png.read_size(body), len(body))


def _webp(body: bytes) -> Header:
    coding: Coding = "lossless" if webp.is_lossless(body) else ""
    return Header("WEBP", *webp.read_size(body), len(body), coding)


def _gif(body: bytes) -> Header:
    return Header("GIF", *gif.read_size(body), len(body))


def _bmp(body: bytes) -> Header:
    size = bmp.read_size(body)
    coding: Coding = "run-length" if bmp.is_run_length_coded(body) else ""
    return Header("BMP", *size, len(body), coding)


_READ: dict[Format, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
}
