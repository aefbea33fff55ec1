"""Bytes a stranger sent -> pixels, or an :class:`InvalidImage` that says what is wrong with them.

Two steps: :func:`check_header` on the event loop, which reads a few bytes, and :func:`decode` in
an inference thread. Nothing is allocated in proportion to what a header claims before the claim
has been found within the limits.
"""

from __future__ import annotations

import logging
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import (
    ImageFileError,
    ImageFormatError,
    LongHeaderError,
    TruncatedImageError,
)
from isoserve.models.image_files import jpeg
from isoserve.models.image_files.cost import decode_cost, decode_memory
from isoserve.models.image_files.header import Header, format_of, read_header
from isoserve.models.preprocessing import decode_pixels, to_pixels
from isoserve.service.inference.image_limits import ImageLimits

logger = logging.getLogger("isoserve.images")


_SMALL_INPUT = InputSpec(height=32, width=32)
"""The header is checked as if for it, before it is known which model will be asked."""

_MEMORY_A_PIXEL = 6.5
"""Bytes of memory that decoding may take, for each of ``max_pixels``: 130 MB."""

_HEIF_SHARE = 125
"""Per cent of ``max_pixels``: telephones take HEIC photographs of 24.5 megapixels."""


class Reason(StrEnum):
    """Why an image is refused: the values of the metric's ``reason`` label."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    SIDE_TOO_LONG = "side_too_long"
    TOO_MANY_SCANS = "too_many_scans"
    FORMAT_NOT_ALLOWED = "format_not_allowed"


_STATUS = {
    Reason.EMPTY: 400,
    Reason.TRUNCATED: 400,
    Reason.CORRUPT: 400,
    Reason.TOO_MANY_BYTES: 413,
    Reason.TOO_MANY_PIXELS: 413,
    Reason.SIDE_TOO_LONG: 413,
    Reason.TOO_MANY_SCANS: 413,
    Reason.FORMAT_NOT_ALLOWED: 415,
}


class InvalidImage(Exception):
    """An image that is refused.

    Attributes:
        reason: the slug for metrics.
        detail: for the client: what, with which value, and what would be right.
        status: the HTTP status: 400 not decodable, 413 too large, 415 not an allowed format.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail

    @property
    def status(self) -> int:
        return _STATUS[self.reason]


def check_header(body: bytes, limits: ImageLimits) -> Header:
    """Refuse by size, format and declared dimensions, without decoding anything.

    Returns:
        What the image says of itself; without a size where that would take long to find out:
        :func:`decode` checks it.

    Raises:
        InvalidImage: see :class:`Reason`.
    """
    if not body:
        raise InvalidImage(
            Reason.EMPTY, f"no image: send the bytes of a {_or(limits.formats)} file"
        )
    if len(body) > limits.max_bytes:
        raise InvalidImage(
            Reason.TOO_MANY_BYTES,
            f"the image has {len(body)} bytes; at most {limits.max_bytes} are accepted",
        )
    try:
        header = read_header(body, quick=True)
    except ImageFileError as error:
        raise _refusal(error, limits) from error
    except LongHeaderError:
        return Header(format_of(body) or "JPEG", 0, 0, len(body))
    _check(header, limits, None if header.format != "JPEG" else _SMALL_INPUT)
    return header


def decode(
    body: bytes, spec: InputSpec, limits: ImageLimits, header: Header | None = None
) -> NDArray[np.uint8]:
    """Decode what :func:`check_header` let through to uint8 [H, W, 3], RGB.

    Args:
        header: what it returned, so that the file's is not read again.

    Raises:
        InvalidImage: whatever the bytes; nothing else.
    """

    def accept(header: Header) -> None:
        _check(header, limits, spec)
        if header.format == "JPEG":
            _check_scans(body, header, limits)

    try:
        return decode_pixels(body, spec, accept, header)
    except InvalidImage:
        raise
    except ImageFileError as error:
        raise _refusal(error, limits) from error
    except MemoryError as error:
        raise InvalidImage(
            Reason.TOO_MANY_PIXELS, "the image needs more memory than there is; send a smaller one"
        ) from error
    except Exception as error:
        # A decoder may raise anything on hostile bytes. Answer it, but let the operator see it.
        logger.exception("unexpected %s while decoding an image", type(error).__name__)
        raise _refusal(ImageFileError("the image data cannot be decoded"), limits) from error


def decode_image(image: Image.Image, spec: InputSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """Bring a PIL image, loaded or only opened, to uint8 [H, W, 3], RGB.

    Raises:
        InvalidImage: it is larger than the limits, or its file is damaged.
    """
    _check_dimensions(image.width, image.height, limits)
    try:
        return to_pixels(image, spec)
    except Exception as error:  # Pillow raises almost anything on broken image data
        raise _refusal(ImageFileError(f"the image cannot be decoded: {error}"), limits) from error


def _check(header: Header, limits: ImageLimits, spec: InputSpec | None) -> None:
    """Args: spec: the input; None where what decoding costs does not depend on it."""
    if header.format not in limits.formats:
        raise _refusal(ImageFormatError(f"{header.format} is not accepted here"), limits)
    _check_dimensions(header.width, header.height, limits, header.format)
    if header.coding == "run-length":
        _check_run_length_coded(header.num_bytes, header, limits)
    if not header.is_surely_cheap:
        _check_cost(header, limits, spec)


def _check_dimensions(
    width: int, height: int, limits: ImageLimits, image_format: str | None = None
) -> None:
    size = f"the image is {width} x {height} pixels"
    if max(width, height) > limits.max_side:
        raise InvalidImage(
            Reason.SIDE_TOO_LONG, f"{size}; a side may have at most {limits.max_side}"
        )
    most = limits.max_pixels
    if image_format == "JPEG":
        most = max(most, limits.max_jpeg_pixels)
    elif image_format == "HEIF":
        most = most * _HEIF_SHARE // 100
    if width * height > most:
        raise InvalidImage(
            Reason.TOO_MANY_PIXELS,
            f"{size}, {width * height} in all; at most {most} are accepted",
        )


def _check_cost(header: Header, limits: ImageLimits, spec: InputSpec | None) -> None:
    """Refuse what takes too long to decode, or more memory than ``max_pixels`` stand for."""
    what = f"the {header.width} x {header.height} {header.coding} {header.format}"
    seconds = decode_cost(header, spec)
    if seconds > limits.max_decode_seconds:
        raise InvalidImage(
            Reason.TOO_MANY_PIXELS,
            f"{what} would take about {seconds:.1f} s to decode, over "
            f"{limits.max_decode_seconds:g}: save it again as a smaller or an ordinary JPEG",
        )
    memory, most = decode_memory(header, spec), _MEMORY_A_PIXEL * limits.max_pixels
    if memory > most:
        way_out = "and not progressive" if header.format == "JPEG" else "or as an ordinary JPEG"
        raise InvalidImage(
            Reason.TOO_MANY_PIXELS,
            f"{' '.join(what.split())} would take {memory / 1e6:.0f} MB to decode, over "
            f"{most / 1e6:.0f}: save it again smaller, {way_out}",
        )


def _check_scans(body: bytes, header: Header, limits: ImageLimits) -> None:
    """Refuse a JPEG of very many scans; of one that comes row by row a decoder reads no second."""
    by_scans = header.coding or header.coefficients
    if by_scans and jpeg.has_more_scans(body, limits.max_jpeg_scans):
        raise InvalidImage(
            Reason.TOO_MANY_SCANS,
            f"the JPEG has more than {limits.max_jpeg_scans} scans; save it again as an ordinary "
            "JPEG",
        )


def _check_run_length_coded(num_bytes: int, header: Header, limits: ImageLimits) -> None:
    pixels = header.width * header.height
    if max(num_bytes, pixels) > limits.max_bmp_rle:
        raise InvalidImage(
            Reason.TOO_MANY_PIXELS,
            f"the run-length coded BMP has {num_bytes} bytes and {pixels} pixels; at most "
            f"{limits.max_bmp_rle} of either are accepted: save it as PNG",
        )


def _refusal(error: ImageFileError, limits: ImageLimits) -> InvalidImage:
    if isinstance(error, ImageFormatError):
        formats = _or(limits.formats)
        return InvalidImage(Reason.FORMAT_NOT_ALLOWED, f"{error}; send a {formats} file")
    if isinstance(error, TruncatedImageError):
        return InvalidImage(Reason.TRUNCATED, f"{error}; send the whole file")
    return InvalidImage(Reason.CORRUPT, f"{error}; send an undamaged file")


def _or(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} or {names[-1]}"
