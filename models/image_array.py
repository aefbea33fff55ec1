"""A NumPy array that somebody holds an image in -> a PIL image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.errors import InputError


def image_of_array(array: NDArray[Any]) -> Image.Image:
    """The image that a uint8 array shows: [H, W, 3] RGB, [H, W, 4] RGBA or [H, W] gray.

    Raises:
        InputError: another type or shape, or no pixels.
    """
    shown = f"{array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8:
        raise InputError(f"the array is {shown}; an image must be uint8 [H, W, 3], RGB")
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fits or not array.size:
        raise InputError(f"the array is {shown}; an image must be [H, W, 3], RGB")
    return Image.fromarray(np.ascontiguousarray(array))
