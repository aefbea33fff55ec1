"""Format and size of an image file, from its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, get_args

from isoserve.models.errors import ImageFileError, ImageFormatError, InputError
from isoserve.models.image_files import bmp, foreign, gif, heif, isobmff, jpeg, png, tiff, webp

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"]

FORMATS: tuple[Format, ...] = tuple(
    name for name in get_args(Format) if name != "HEIF" or heif.IS_INSTALLED
)
"""The formats that are read, by training and serving alike."""


Coding = Literal["", "progressive", "arithmetic", "lossless", "run-length"]
"""How a format codes its pixels, where it has a slower way than its usual one."""


_CHEAP = 1 << 16
"""Pixels, and bytes."""

_LITTLE_MEMORY = 1 << 21


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
    decoding_bytes: int = 0
    """That a decoder holds at its worst moment: in all of an AVIF or a HEIF, whose planes the file
    tells; of other formats beside the four bytes of each pixel."""
    segments: jpeg.Segments | None = None
    """Of a JPEG."""

    @property
    def is_surely_cheap(self) -> bool:
        """Whether no limit of cost can be met: some thousand pixels, in as many bytes, or fewer."""
        return (
            self.width * self.height <= _CHEAP
            and self.num_bytes <= _CHEAP
            and self.decoding_bytes <= _LITTLE_MEMORY
        )


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
    if head.startswith(tiff.MAGIC):
        return "TIFF"
    return "BMP" if head.startswith(bmp.MAGIC) else isobmff.kind_of(head)


def formats_of(text: str) -> tuple[Format, ...]:
    """Formats by their names with commas between them, in any case.

    Raises:
        InputError: one that is not read, or none.
    """
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            missing = name == "HEIF"
            raise InputError(
                f"{name!r} is not a format that is read"
                + ('; install "isoserve[heif]"' if missing else f"; known are {', '.join(FORMATS)}")
            )
    if not names:
        raise InputError(f"no format is named; known are {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in names)


def read_header(body: bytes, *, quick: bool = False) -> Header:
    """Read format and size; allocates and decodes nothing.

    Args:
        quick: whether to give up on a header of very many parts.

    Raises:
        LongHeaderError: given up.
        ImageFormatError: the first bytes are of none of :data:`FORMATS`; says what they are.
        ImageFileError: no size, or one of zero.
    """
    kind = format_of(body)
    if kind is None:
        raise ImageFormatError(foreign.describe(body))
    if kind not in FORMATS:
        raise ImageFormatError(foreign.HEIF_MISSING)
    read = _READ_QUICKLY.get(kind, _READ[kind]) if quick else _READ[kind]
    return _with_size(read(body))


def _with_size(header: Header) -> Header:
    if header.width == 0 or header.height == 0:
        raise ImageFileError(f"the {header.format} is {header.width} x {header.height} pixels")
    return header


def _jpeg(body: bytes, *, quick: bool = False) -> Header:
    read = jpeg.read_segments(body, quick=quick)
    width, height, _, coding, coefficients = read.frame
    return Header("JPEG", width, height, len(body), coding, coefficients, segments=read)


def _png(body: bytes) -> Header:
    width, height = png.read_size(body)
    low_bytes = 4 * width * height if png.has_deep_colour(body) else 0
    return Header("PNG", width, height, len(body), decoding_bytes=low_bytes)


def _webp(body: bytes) -> Header:
    coding: Coding = "lossless" if webp.is_lossless(body) else ""
    return Header("WEBP", *webp.read_size(body), len(body), coding)


def _gif(body: bytes) -> Header:
    return Header("GIF", *gif.read_size(body), len(body))


def _bmp(body: bytes) -> Header:
    size = bmp.read_size(body)
    coding: Coding = "run-length" if bmp.is_run_length_coded(body) else ""
    return Header("BMP", *size, len(body), coding)


def _tiff(body: bytes, *, quick: bool = False) -> Header:
    page = tiff.read_tiff(body, quick=quick)
    held = page.block_bytes
    if page.bits > 8 and page.samples > 1:
        held += 4 * page.width * page.height
    return Header("TIFF", page.width, page.height, len(body), decoding_bytes=held)


def _avif(body: bytes, *, quick: bool = False) -> Header:
    width, height, held = isobmff.read_avif(body, quick=quick)
    return Header("AVIF", width, height, len(body), decoding_bytes=held)


def _heif(body: bytes, *, quick: bool = False) -> Header:
    width, height, held = isobmff.read_heif(body, quick=quick)
    return Header("HEIF", width, height, len(body), decoding_bytes=held)


_READ: dict[Format, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _avif,
    "HEIF": _heif,
}

_READ_QUICKLY: dict[Format, Callable[[bytes], Header]] = {
    "JPEG": partial(_jpeg, quick=True),
    "TIFF": partial(_tiff, quick=True),
    "AVIF": partial(_avif, quick=True),
    "HEIF": partial(_heif, quick=True),
}
"""Formats whose headers may be long."""
