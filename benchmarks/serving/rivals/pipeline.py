"""What every rival does with an image: the same decoding, ONNX Runtime and fields as Isoserve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from isoserve.models.card import InputSpec
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import decode
from isoserve.service.inference.model import load_model
from isoserve.service.inference.outputs import Outputs

LIMITS = ImageLimits()


class Pipeline:
    """The network of ``MODEL`` with one single-threaded session."""

    def __init__(self) -> None:
        data = Path(os.environ["MODEL"]).read_bytes()
        self._model = load_model("rival", 1, data, 1, 1)
        self._spec: InputSpec = self._model.card.input

    def decode(self, body: bytes) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return decode(body, self._spec, LIMITS)

    def answers(self, pixels: list[np.ndarray]) -> list[dict[str, Any]]:
        """A small document an image."""
        outputs = self._model.run(0, np.stack(pixels))
        return [self._document(outputs, row) for row in range(len(pixels))]

    def _document(self, outputs: Outputs, row: int) -> dict[str, Any]:
        index = int(outputs.probabilities[row].argmax())
        p_value = float(outputs.p_value[row])
        return {
            "label": self._model.labels[index],
            "probability": float(outputs.probabilities[row, index]),
            "p_value": p_value,
            "is_ood": p_value <= 0.05,
        }
