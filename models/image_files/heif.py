"""HEIC and HEIF photographs by pillow-heif, where the extra ``heif`` is installed."""

from __future__ import annotations

from importlib.util import find_spec

IS_INSTALLED = find_spec("pillow_heif") is not None


def register() -> None:
    """Teach Pillow the format, a thread per image: how many images at once is the server's to say.

    Orientation, which the format holds itself, is applied; ten bits are brought to eight.
    """
    if IS_INSTALLED:
        import pillow_heif

        pillow_heif.register_heif_opener(
            decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
        )
