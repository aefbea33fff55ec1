"""What a person may ask beyond the verdict: the picture as the model saw it, and the distances."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from isoserve.service.inference.model import Outputs, Pixels


def explanation(outputs: Outputs, row: int, pixels: Pixels) -> dict[str, Any]:
    """In the form of :class:`isoserve.service.http.schemas.Explanation`.

    Args:
        pixels: uint8 [N, H, W, 3], the batch that the outputs are of.
    """
    file = io.BytesIO()
    Image.fromarray(pixels[row]).save(file, "PNG")
    return {
        "seen": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(),
        "distances": outputs.distances[row],
    }
