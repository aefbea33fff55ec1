"""bytes -> RGB pixels, safely."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.card import InputSpec
from models.preprocessing import to_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How large an image may be."""

    max_pixels: int
    max_side: int


class InvalidImage(Exception):
    """The bytes are not an image that may be served."""

    def __init__(self, reason: str, detail: str, status: Literal[400, 413, 415]) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status


def check_header(body: bytes, limits: ImageLimits) -> int:
    """Refuse what its first bytes already show to be wrong; the pixels it says it has."""
    width, height = _open(body, limits).size
    return width * height


def decode(body: bytes, spec: InputSpec, limits: ImageLimits) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB, at the spec's size."""
    image = _open(body, limits)
    try:
        return to_pixels(image, spec)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidImage("broken", "the image data is broken or ends early", 400) from error


def _open(body: bytes, limits: ImageLimits) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InvalidImage(
            "unknown_format", f"not an image in one of {', '.join(FORMATS)}", 415
        ) from error
    except Image.DecompressionBombError as error:
        raise InvalidImage("too_many_pixels", "the image has too many pixels", 413) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidImage("broken", "the image header is broken", 400) from error
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise InvalidImage("too_many_pixels", f"the image is {width} x {height}", 413)
    return image
