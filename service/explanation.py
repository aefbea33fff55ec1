"""What a person may ask beyond the verdict: the picture as the model saw it, and the distances."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from models.card import InputSpec
from service.engine import Outputs
from service.images import ImageLimits, decode


def explanation(
    body: bytes, spec: InputSpec, limits: ImageLimits, outputs: Outputs, row: int
) -> dict[str, Any]:
    """In the form of :class:`service.schemas.Explanation`.

    The image is decoded once more than the verdict needs, so that requests which ask for no
    explanation carry no pixels along.
    """
    file = io.BytesIO()
    Image.fromarray(decode(body, spec, limits)).save(file, "PNG")
    return {
        "seen": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(),
        "distances": outputs.distances[row],
    }
