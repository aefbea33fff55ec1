"""What a person may ask beyond the verdict: the picture as the model saw it, and the distances."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from isoserve.models.card import ModelCard
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.inference.reasons import WORDS, nearest_prototypes, reason


def explanation(card: ModelCard, outputs: Outputs, row: int, pixels: Pixels) -> dict[str, Any]:
    """In the form of :class:`isoserve.service.http.schemas.Explanation`.

    Args:
        pixels: uint8 [N, H, W, 3], the batch that the outputs are of.
    """
    file = io.BytesIO()
    Image.fromarray(pixels[row]).save(file, "PNG")
    return {
        "seen": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(),
        "reason": (found := reason(card, outputs, row)),
        "why": WORDS[found],
        "nearest": nearest_prototypes(card, outputs, row),
        "distances": outputs.distances[row],
    }
