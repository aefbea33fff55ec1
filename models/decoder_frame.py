"""WebP, AVIF and HEIF read from where their decoders left them, without Pillow's copies.

Pillow takes the decoder's picture as bytes and copies it into an image while the decoder still
holds its own: 16 bytes a pixel of a WebP, 13 of an AVIF. Here rows are cut out of those bytes. For
WebP and AVIF that takes the decoder objects of Pillow's plugins, which are not public: the tests
compare with Pillow, and ``pyproject.toml`` bounds its version.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageFile

from isoserve.models.errors import ImageFileError
from isoserve.models.high_depth import rows_of_any
from isoserve.models.image_rows import ImageRows, to_rgb_or_rgba

FORMATS = ("WEBP", "AVIF")
"""That Pillow decodes so."""


def rows_of_frame(image: ImageFile.ImageFile) -> ImageRows:
    """The first frame of a file in :data:`FORMATS` that was just opened; it is used up by that.

    Raises:
        ImageFileError: the decoder refuses it.
        Exception: what Pillow raises on broken image data.
    """
    decoder: Any = image._decoder  # type: ignore[attr-defined]
    frame = decoder.get_next() if image.format == "WEBP" else decoder.get_frame(0)
    if frame is None:
        raise ImageFileError(f"the {image.format}'s image data cannot be decoded")
    raw = getattr(image, "rawmode", image.mode)
    del decoder
    image._decoder = None  # type: ignore[attr-defined]  # its planes go with it
    return _rows_of_bytes(frame[0], image.mode, image.size, (raw, 0))


def rows_of_heif(body: bytes, most: int) -> ImageRows:
    """The primary image of a HEIF file, turned and cropped as it says.

    Args:
        most: pixels that the file declares; more are not decoded.

    Raises:
        ImageFileError: there are more.
        Exception: what pillow-heif raises on broken image data.
    """
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(body), hdr_to_16bit=True, remove_stride=False)
    image = file[file.primary_index]
    if image.size[0] * image.size[1] > most:
        raise ImageFileError("the HEIF's headers disagree on its size")
    data = image.data
    return _rows_of_bytes(data, image.mode, image.size, (image.mode, image.stride))


def _rows_of_bytes(
    data: Any, mode: str, size: tuple[int, int], layout: tuple[str, int]
) -> ImageRows:
    """Args: layout: Pillow's raw mode and the bytes a row; 0: no more than its pixels."""
    view = memoryview(data)
    raw, stride = layout
    stride = stride or len(view) // size[1]

    def cut(top: int, bottom: int) -> Image.Image:
        rows = view[top * stride : bottom * stride]
        return Image.frombytes(mode, (size[0], bottom - top), rows, "raw", raw, stride)

    if mode.startswith("I"):
        return rows_of_any(cut(0, size[1]))
    return ImageRows(size, lambda top, bottom: to_rgb_or_rgba(cut(top, bottom)))
