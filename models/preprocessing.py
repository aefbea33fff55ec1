"""Any opened image -> the RGB pixels a network takes; one path for training and serving.

Whatever the two sides do differently to an image shows up as a shift of the score, so both call
:func:`to_pixels` and nothing else. It imports neither torch nor the service.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.card import InputSpec

BACKGROUND = (255, 255, 255)
"""Transparent pixels are shown on white, as most viewers do."""

DRAFT_OVERSAMPLING = 4
"""A large JPEG is decoded at the smallest DCT scale that is still this many times the input."""


def to_pixels(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """Bring an opened, not yet loaded image to the network's input.

    EXIF orientation is applied, transparency composed on white, 16-bit, palette, CMYK and gray
    brought to RGB; then a centre crop to the input's aspect ratio and an antialiased bicubic
    resize. An RGB image already at the input's size keeps its pixels to the bit.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        OSError, SyntaxError, ValueError: what Pillow raises on broken image data.
    """
    size = (spec.width, spec.height)
    if image.format == "JPEG":
        longest = DRAFT_OVERSAMPLING * max(size)
        image.draft("RGB", (longest, longest))
    image = to_rgb(ImageOps.exif_transpose(image))
    if image.size != size:
        image = ImageOps.fit(image, size, method=Image.Resampling.BICUBIC)
    return np.asarray(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB as a person would see the image."""
    if image.mode.startswith("I") or image.mode == "F":
        return _high_depth_to_rgb(image)
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_depth_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit values at 255 in convert("RGB"); a person sees the high byte.
    values = np.asarray(image).astype(np.float64)
    gray = Image.fromarray(np.clip(values / 257.0, 0, 255).round().astype(np.uint8))
    return gray.convert("RGB")
