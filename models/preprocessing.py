"""Any image -> the RGB pixels a network takes; one path for training and serving.

Whatever the two sides do differently to an image shows up as a shift of the score, so both call
:func:`decode_pixels` on a file's bytes, or :func:`to_pixels` on an image in memory, and nothing
else. It imports neither torch nor the service.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageFile

from isoserve.models.card import InputSpec
from isoserve.models.decoder_frame import FORMATS as FORMATS_OF_FRAMES
from isoserve.models.decoder_frame import rows_of_frame, rows_of_heif
from isoserve.models.errors import ImageFileError, TruncatedImageError
from isoserve.models.high_depth import rows_of_any, rows_of_file
from isoserve.models.image_files import gif, heif, jpeg, libtiff_messages, webp
from isoserve.models.image_files.exif import UPRIGHT, read_orientation
from isoserve.models.image_files.header import Header, read_header
from isoserve.models.image_files.png import read_png
from isoserve.models.image_rows import ImageRows, resize_rows, rows_of_array
from isoserve.models.jpeg_decoding import decode_jpeg

BACKGROUND = (255, 255, 255)
"""Transparent pixels are shown on white, as most viewers do."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what brings the image upright."""

_JPEG_FORMATS = ("JPEG", "MPO")
"""Pillow has a name of its own for a telephone's JPEG with another behind it."""

_DECODER_ERRORS = (
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    UserWarning,
    ValueError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow is known to raise on broken image data."""

_Size = tuple[int, int]

heif.register()
libtiff_messages.silence()
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # how many images at once is the server's to say
# What Pillow has to say of a TIFF is in the refusal; a log is not for strangers' files to write.
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


def decode_pixels(
    body: bytes,
    spec: InputSpec,
    accept: Callable[[Header], None] | None = None,
    header: Header | None = None,
) -> NDArray[np.uint8]:
    """Decode an image file and bring it to the network's input as :func:`to_pixels` does.

    Only the first frame counts. A file that is not whole is refused, because a decoder fills in
    what is missing, and a class for filler is a wrong answer.

    Args:
        accept: is given the header, and may raise an error of its own before anything is decoded.
        header: the file's, where it has been read.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ImageFileError: an unknown format, or a file that is damaged or not whole.
    """
    try:
        header = header or read_header(body)
        if accept is not None:
            accept(header)
        return _decode(body, spec, header)
    except ImageFileError:
        raise
    except _DECODER_ERRORS as error:
        if "truncated" in str(error):
            raise TruncatedImageError("the image data end early") from error
        raise ImageFileError("the image data cannot be decoded") from error


def to_pixels(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """Bring an image in memory, or one opened and not yet loaded, to the network's input.

    EXIF orientation is applied, transparency composed on white, 16-bit, palette, CMYK and gray
    brought to RGB; then a centre crop to the input's aspect ratio, of which ``spec.crop`` is the
    share kept, and an antialiased bicubic resize. An RGB image already at the input's size keeps
    its pixels to the bit, whatever the crop.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        Exception: what Pillow raises on broken image data: OSError, SyntaxError, ValueError, ...
    """
    file = image.fp if isinstance(image, ImageFile.ImageFile) and image.tile else None
    if file is not None and image.format in _JPEG_FORMATS:
        # Not loaded yet: the bytes tell how much of it must be decoded, as they do in serving.
        file.seek(0)
        return _jpeg_pixels(jpeg.read_jpeg(file.read()), spec)
    image.load()
    return _fit(rows_of_any(image), image.size, _orientation(image), spec)


def _decode(body: bytes, spec: InputSpec, header: Header) -> NDArray[np.uint8]:
    if header.segments is not None:
        return _jpeg_pixels(jpeg.read_jpeg(body, header.segments), spec)
    size = (header.width, header.height)
    orientation = UPRIGHT
    if header.format == "HEIF":
        rows = rows_of_heif(body, size[0] * size[1])
        return _fit(rows, rows.size, orientation, spec)
    if header.format == "PNG":
        orientation, body = read_png(body)
    elif header.format == "WEBP":
        orientation = webp.read_orientation_chunk(body)
    elif header.format == "GIF":
        body = gif.read_first_frame(body)
    with Image.open(io.BytesIO(body), formats=(header.format,)) as image:
        if header.format in ("TIFF", "AVIF"):
            # Of a TIFF Pillow turns the image itself when it is loaded, and says so before.
            if image.width * image.height > size[0] * size[1]:
                raise ImageFileError(f"the {header.format}'s headers disagree on its size")
            size = image.size
        elif image.size != size:
            raise ImageFileError(f"the {header.format}'s headers disagree on its size")
        if header.format == "AVIF":
            orientation = _orientation(image)
        if header.format in FORMATS_OF_FRAMES:
            rows = rows_of_frame(image)
        else:
            rows = rows_of_file(body, image)
        return _fit(rows, size, orientation, spec)


def _jpeg_pixels(file: jpeg.Jpeg, spec: InputSpec) -> NDArray[np.uint8]:
    image, size, orientation, scale = decode_jpeg(file, spec)
    if isinstance(image, Image.Image):
        rows = rows_of_any(image)
    elif orientation == UPRIGHT and size == (spec.width, spec.height) and image.shape[2] == 3:
        return image
    else:
        rows = rows_of_array(image)
    return _fit(rows, size, orientation, spec, scale)


def _orientation(image: Image.Image) -> int:
    return read_orientation(image.info.get("exif", b""))


def _fit(
    rows: ImageRows, size: _Size, orientation: int, spec: InputSpec, scale: int = 1
) -> NDArray[np.uint8]:
    """Crop, resize, compose and turn an image that had ``size`` before its sides were scaled."""
    wanted = _turned((spec.width, spec.height), orientation)
    if size == wanted:
        image = rows.read(0, rows.size[1])
    else:
        # A scaled image's last row and column may stand for less than the others, so the box is
        # that of the whole image, scaled, and not one around what was decoded.
        left, top, right, bottom = _centre(size, wanted, spec.crop)
        box = (left / scale, top / scale, right / scale, bottom / scale)
        image = resize_rows(rows, wanted, box)
    if image.mode == "RGBA":
        canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(canvas, image).convert("RGB")
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    return np.asarray(image)


def _turned(size: _Size, orientation: int) -> _Size:
    return size[::-1] if orientation >= 5 else size


def _centre(size: _Size, wanted: _Size, share: float) -> tuple[float, float, float, float]:
    """That share of the largest box (left, top, right, bottom) of the wanted aspect ratio."""
    width, height = float(size[0]), float(size[1])
    if size[0] * wanted[1] <= size[1] * wanted[0]:
        height = size[0] * wanted[1] / wanted[0]
    else:
        width = size[1] * wanted[0] / wanted[1]
    width, height = share * width, share * height
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height
