"""Read an exported model and run it over many images, as the service would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from isoserve.models.card import INPUT_NAME, OUTPUT_NAMES, CardError, ModelCard, read_card
from isoserve.models.errors import InputError

Outputs = dict[str, NDArray[np.float32]]


def read_model(path: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Read a ``model.onnx`` and its card.

    Raises:
        InputError: no such file, not an ONNX model, or one without a valid card.
    """
    if not path.is_file():
        raise InputError(f"no model file at {path}")
    try:
        model = onnx.load_model(path, load_external_data=False)
        card = read_card({entry.key: entry.value for entry in model.metadata_props})
    except CardError as error:
        raise InputError(f"{path}: {error}") from error
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX model: {error}") from error
    given = {node.name for node in (*model.graph.input, *model.graph.output)}
    missing = [name for name in (INPUT_NAME, *OUTPUT_NAMES) if name not in given]
    if missing:
        raise InputError(f"{path} has a card, but its graph lacks {', '.join(missing)}")
    return model, card


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
