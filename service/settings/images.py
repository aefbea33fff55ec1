"""Which images are taken: their formats, and what one of them may cost."""

from __future__ import annotations

from pydantic import Field, field_validator

from isoserve.models.image_files.header import FORMATS, formats_of
from isoserve.service.environment import EnvironmentModel
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.settings.seconds import Seconds


class ImageSettings(EnvironmentModel):
    """A part of ``Settings``."""

    image_formats: str = Field(
        "",
        description="Formats that are accepted, of JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF and HEIF "
        "(HEIC photographs; needs the extra heif), with commas between them; empty accepts every "
        "format that can be read.",
    )
    max_pixels: int = Field(
        20_000_000,
        ge=1,
        description="Most pixels an image may have; a JPEG as it is decoded, at a fraction of its "
        "size where the model's input is much smaller, and a HEIC photograph a quarter more. An "
        "image whose decoding is estimated to hold more than 6.5 times as many bytes (130 MB) is "
        "refused, too: so is a WebP of over 10 megapixels.",
    )
    max_jpeg_pixels: int = Field(
        2**26, ge=1, description="Most pixels a JPEG may have before it is decoded at a fraction."
    )
    max_decode_seconds: Seconds = Field(
        2.0,
        description="An image whose decoding is estimated from its header to take a core longer "
        "than this is refused.",
    )
    max_side: int = Field(16_384, ge=1, description="Longest side an image may have, in pixels.")
    max_image_bytes: int = Field(
        20 * 2**20, ge=1, description="Largest image file, whether a body or a part of one."
    )
    max_jpeg_scans: int = Field(32, ge=1, description="Most scans of a progressive JPEG.")

    @property
    def image_limits(self) -> ImageLimits:
        """The settings of a single image, as the decoder takes them."""
        return ImageLimits(
            max_pixels=self.max_pixels,
            max_side=self.max_side,
            max_bytes=self.max_image_bytes,
            max_jpeg_scans=self.max_jpeg_scans,
            max_jpeg_pixels=self.max_jpeg_pixels,
            max_decode_seconds=self.max_decode_seconds,
            formats=formats_of(self.image_formats) if self.image_formats else FORMATS,
        )

    @field_validator("image_formats")
    @classmethod
    def _names_formats(cls, text: str) -> str:
        if text:
            formats_of(text)
        return text
