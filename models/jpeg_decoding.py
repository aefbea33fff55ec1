"""JPEG -> pixels at a fraction of its size, served unless rows of it are missing.

The rule: what Chromium and libjpeg-turbo show whole is shown, damaged metadata, foreign bytes and
a missing end marker or not; a file whose decoder had to fill in rows is refused, because a class
for filler is a wrong answer.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.image_files import jpeg
from isoserve.models.image_files.jpeg_scans import (
    END,
    Scans,
    count_intervals,
    count_restarts,
    read_scans,
)
from isoserve.models.image_files.reduction import reduction_of, upsamples_simply

_FILLER = (127, 128, 129)
"""Brightness that libjpeg gives to what is not in the file: 128, or that inverted or rounded."""

_MORE_DATA = bytes(1 + 37 * index % 251 for index in range(64))
"""Entropy-coded data without meaning: put before the end they change the pixels, if and only if
the decoder was still in want of data there."""


class DecodedJpeg(NamedTuple):
    """A JPEG's pixels, its sides divided by ``scale``, not turned yet."""

    image: Image.Image | NDArray[np.uint8]
    """RGB, gray or CMYK; an array, of RGB or inverted CMYK, where it came without a complaint."""
    size: tuple[int, int]
    """(width, height) of the whole image."""
    orientation: int
    scale: int


def decode_jpeg(file: jpeg.Jpeg, spec: InputSpec) -> DecodedJpeg:
    """Decode at the fraction of its size that suits the input.

    Raises:
        ImageFormatError: a kind of JPEG that is not supported.
        ImageFileError: damaged, or rows are missing.
        Exception: what Pillow raises on broken image data.
    """
    turned = file.orientation >= 5
    scale = reduction_of(file.frame, spec, len(file.body), turned=turned)
    simply = upsamples_simply(file.frame, spec, scale, turned=turned)
    image: Image.Image | NDArray[np.uint8]
    pixels, complaint = _by_turbo(file, file.body, scale, simply)
    image = _in_spite_of(complaint, file, scale) if pixels is None else pixels
    size = (file.frame.width, file.frame.height)
    return DecodedJpeg(image, size, file.orientation, scale)


def _by_turbo(
    file: jpeg.Jpeg, body: bytes, scale: int, simply: bool = False
) -> tuple[NDArray[np.uint8] | None, str]:
    """uint8 [h, w, 3] RGB or [h, w, 4] inverted CMYK; None and why where libjpeg complains.

    The same libjpeg-turbo as Pillow's, without the copies, and to the bit unless ``simply``: see
    :func:`~isoserve.models.image_files.reduction.upsamples_simply`. A few rare chroma
    samplings it does not take at all (KeyError or ValueError).
    """
    if file.frame.coding == "arithmetic":
        return None, ""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            body,
            "CMYK" if file.frame.components == 4 else "RGB",
            min_width=-(-file.frame.width // scale),
            min_height=-(-file.frame.height // scale),
            min_factor=scale,
            fastupsample=simply,
        )
    except (KeyError, ValueError) as error:
        return None, str(error)
    return pixels, ""


def _in_spite_of(complaint: str, file: jpeg.Jpeg, scale: int) -> Image.Image:
    """What viewers show of a file that libjpeg complains of, unless rows are missing."""
    scans = read_scans(file)
    arithmetic = file.frame.coding == "arithmetic"
    if not scans.ended:
        # Whole but for its end marker? Then closed it gives no cause for complaint.
        pixels, complaint = _by_turbo(file, scans.body, scale)
        if arithmetic or not scans.refined or (file.frame.coefficients and _is_short(complaint)):
            raise _ends_early()
        if pixels is not None and file.frame.components != 4:
            return Image.fromarray(pixels)
    elif file.frame.coefficients:
        # A scan that refines may be short: the rows are there without it.
        _, complaint = _by_turbo(file, scans.rows, scale)
    if _is_short(complaint) and not file.restart_interval and not _is_contrived(file):
        raise _ends_early()
    image = _by_pillow(scans.body, file, scale)
    if _shows_filler(image, scale) and not _is_contrived(file) and _wants_data(scans, file, scale):
        raise _ends_early()
    return image


def _by_pillow(body: bytes, file: jpeg.Jpeg, scale: int) -> Image.Image:
    with Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
        if image.size != (file.frame.width, file.frame.height):
            raise ImageFileError("the JPEG's headers disagree on its size")
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        image.load()
    return image


def _shows_filler(image: Image.Image, scale: int) -> bool:
    """Whether the last corner is of the gray that libjpeg leaves where it has no data."""
    block = 8 // scale
    corner = image.crop((max(image.width - block, 0), image.height - 1, *image.size))
    if corner.mode == "RGB":
        corner = corner.convert("L")  # the colour next to filler is smoothed into it
    return bool(np.isin(np.asarray(corner), _FILLER).all())


def _wants_data(scans: Scans, file: jpeg.Jpeg, scale: int) -> bool:
    """Whether the gray is filler: more data would have been taken for image."""
    if file.restart_interval and not file.frame.coefficients:
        return count_restarts(scans.body, file) < count_intervals(file) - 1
    longer = scans.rows.removesuffix(END) + _MORE_DATA + END
    before, after = (_by_pillow(body, file, scale) for body in (scans.rows, longer))
    return before.tobytes() != after.tobytes()


def _is_short(complaint: str) -> bool:
    return "premature end of data" in complaint


def _is_contrived(file: jpeg.Jpeg) -> bool:
    """Whether no camera or program in use writes such a file, so that it lost nothing on the way.

    What libjpeg shows of these is served: every viewer shows the same. An arithmetic decoder
    reads on past the end by design, so there even gray may be image.
    """
    return file.frame.coding == "arithmetic" or jpeg.codes_a_value_twice(file.body)


def _ends_early() -> TruncatedImageError:
    return TruncatedImageError("the JPEG's image data end early")
