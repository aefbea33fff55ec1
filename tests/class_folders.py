"""Images in a folder a class, as people have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_class_folders(
    root: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]
) -> Path:
    """Write images uint8 [N, H, W, 3] as PNGs into the folders of their classes; the root."""
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:04}.png", compress_level=0)
    return root
