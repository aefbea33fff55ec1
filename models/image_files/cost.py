"""What decoding an image will cost, from its header alone.

For admission: a file of 38 bytes can ask for a second of work, and bytes alone do not show it. The
figures are nanoseconds of one core of an Intel Xeon (Sapphire Rapids class, the project's machine)
for pictures of 3 megapixels, flat, photographic and noisy, decoded by :mod:`isoserve.models.
preprocessing` with Pillow 13.0 and simplejpeg 1.9 (libjpeg-turbo 3), processor time, lowest of
three; each row is a line through those three with the dearest of them kept. Another machine is
slower or faster as a whole: compare costs with one another, or multiply by what was measured.
"""

from __future__ import annotations

from typing import NamedTuple

from isoserve.models.card import InputSpec
from isoserve.models.image_files.header import Header
from isoserve.models.image_files.reduction import reduction_of

FIXED_SECONDS = 50e-6
"""Of any image: opening it, and one resize to a small input."""


FIXED_BYTES = 3_000_000
"""Of any image: a strip of it in the making, and the decoder's own."""

_PIXEL_BYTES = {"WEBP": 12, "AVIF": 0.5, "HEIF": 0.3}
"""What a decoder holds of a pixel beside the file's own :attr:`Header.decoding_bytes`, where it is
not the four of Pillow's image: libwebp has two canvases and gives the picture as a third."""


class _Rate(NamedTuple):
    """Nanoseconds."""

    a_pixel: float
    a_byte: float


_RATES = {
    ("PNG", ""): _Rate(12.0, 33.0),
    ("WEBP", ""): _Rate(18.0, 85.0),
    ("WEBP", "lossless"): _Rate(45.0, 15.0),
    ("GIF", ""): _Rate(11.0, 10.0),
    ("BMP", ""): _Rate(7.0, 0.3),
    ("BMP", "run-length"): _Rate(20.0, 650.0),
    ("TIFF", ""): _Rate(12.0, 6.0),
    ("AVIF", ""): _Rate(12.0, 100.0),
    ("HEIF", ""): _Rate(15.0, 200.0),
}

_JPEG_RATES = {
    "": _Rate(0.6, 10.0),
    "progressive": _Rate(2.5, 45.0),
    "arithmetic": _Rate(0.8, 100.0),
}
"""Reading the coefficients; what follows is by the pixels that are made of them."""

_JPEG_PIXEL = 7.0
"""A pixel that is made of coefficients, and goes into the resize."""


def decode_cost(header: Header, spec: InputSpec | None = None) -> float:
    """Seconds of one core that decoding and resizing are expected to take.

    Args:
        header: of :func:`isoserve.models.image_files.header.read_header`.
        spec: the input that the image is brought to: a JPEG much larger than it is decoded at a
            fraction of its size. None: as if the JPEG were decoded whole.
    """
    pixels = header.width * header.height
    if header.format == "JPEG":
        rate = _JPEG_RATES[header.coding]
        made = (
            pixels if spec is None else pixels / reduction_of(header, spec, header.num_bytes) ** 2
        )
        nanoseconds = rate.a_pixel * pixels + rate.a_byte * header.num_bytes + _JPEG_PIXEL * made
    else:
        rate = _RATES[header.format, header.coding]
        nanoseconds = rate.a_pixel * pixels + rate.a_byte * header.num_bytes
    return FIXED_SECONDS + nanoseconds * 1e-9


def decode_memory(header: Header, spec: InputSpec | None = None) -> int:
    """Bytes that decoding will hold at its worst moment, beside the file itself.

    Args:
        header, spec: as for :func:`decode_cost`.
    """
    pixels = header.width * header.height
    if header.format == "JPEG":
        made = pixels // _reduction(header, spec) ** 2
        return FIXED_BYTES + 2 * header.coefficients + 4 * made
    rate = _PIXEL_BYTES.get(header.format, 4)
    return FIXED_BYTES + round(rate * pixels) + header.decoding_bytes


def _reduction(header: Header, spec: InputSpec | None) -> int:
    return 1 if spec is None else reduction_of(header, spec, header.num_bytes)
