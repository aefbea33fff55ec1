"""Run an exported model over many images, as the service would."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from models.card import INPUT_NAME, OUTPUT_NAMES

Outputs = dict[str, NDArray[np.float32]]


def run_graph(
    model: onnx.ModelProto | bytes, pixels: NDArray[np.uint8], batch_size: int = 64
) -> Outputs:
    """Outputs by name for uint8 [N, H, W, 3]; float32, first axis N."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    parts = [
        session.run(OUTPUT_NAMES, {INPUT_NAME: pixels[start : start + batch_size]})
        for start in range(0, len(pixels), batch_size)
    ]
    return {
        name: np.concatenate([part[index] for part in parts])
        for index, name in enumerate(OUTPUT_NAMES)
    }
