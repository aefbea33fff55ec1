"""Whatever a caller holds an image in -> the bytes that travel."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from isoserve.models.regular_file import read_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

ImageSource: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]"
)
"""A path, the bytes of an image file, an open binary file, a PIL image, or a uint8 array
[H, W, 3], RGB."""

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def image_bytes(source: ImageSource) -> bytes:
    """The bytes of an image file.

    A path, bytes or a file travel as they are. A PIL image or an array travels as lossless PNG
    of its pixels, turned upright by its EXIF orientation.

    Raises:
        OSError: the file cannot be read.
        InputError: an array of another type or shape.
        TypeError: it is none of these.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return read_regular(Path(source))
    if hasattr(source, "read"):
        content = source.read()
        if isinstance(content, bytes):
            return content
        raise TypeError("the file is open as text; open it with mode 'rb'")
    import numpy as np  # only who passes an array or a PIL image pays for these
    from PIL import Image

    if isinstance(source, np.ndarray):
        from isoserve.models.image_array import image_of_array

        return _as_png(image_of_array(source))
    if isinstance(source, Image.Image):
        return _as_png(source)
    raise TypeError(
        "an image is a path, bytes, a binary file, a PIL image or a uint8 array, not "
        f"{type(source).__name__}"
    )


def chunks(bodies: Iterable[bytes], most: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Group bodies in order: at most so many and so many bytes a group, at least one each."""
    group: list[bytes] = []
    size = 0
    for body in bodies:
        if group and (len(group) == most or size + len(body) > most_bytes):
            yield group
            group, size = [], 0
        group.append(body)
        size += len(body)
    if group:
        yield group


def _as_png(image: Image.Image) -> bytes:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("F", "I"):
        upright = upright.convert("I").convert("I;16")
    elif upright.mode not in PNG_MODES:
        upright = upright.convert("RGBA" if upright.mode in ("La", "RGBa", "PA") else "RGB")
    file = io.BytesIO()
    upright.save(file, "PNG", compress_level=1)
    return file.getvalue()
