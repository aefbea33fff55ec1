"""How large an image may be, and of which format; imports no decoder."""

from __future__ import annotations

from dataclasses import dataclass

from isoserve.models.image_files.header import FORMATS


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be."""

    max_pixels: int = 20_000_000
    """Decoded. Most formats take 4 bytes a pixel for a moment, all at most 6.5 times this number:
    of a WebP, which takes 12, that leaves 10.8 million, of an AVIF with transparency 11."""
    max_side: int = 16_384
    """Of width and height, in pixels."""
    max_bytes: int = 20 << 20
    """Encoded; telephones' photographs have 2 to 8 MB, those of 48 megapixels up to 20."""
    max_jpeg_scans: int = 32
    """A progressive JPEG has some ten; each costs a pass over all its pixels."""
    max_bmp_rle: int = 1 << 20
    """Bytes, and also pixels, of a run-length coded BMP, which Pillow unpacks in Python."""
    max_jpeg_pixels: int = 1 << 26
    """Of a JPEG, which is decoded at a fraction of its size: 0.6 ns of a core a pixel, where a PNG
    takes 12. What is left of it then is bounded by ``max_pixels``."""
    max_decode_seconds: float = 2.0
    """Of a core, by :func:`isoserve.models.image_files.cost.decode_cost`."""
    formats: tuple[str, ...] = FORMATS
    """That are accepted."""
