"""The network's rows -> output tensors, and the answer that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs
from isoserve.service.inference.verdicts import as_json, is_ood
from isoserve.service.inference_protocol.metadata import DATATYPES, IS_OOD, LABEL
from isoserve.service.inference_protocol.requests import InferenceRequest
from isoserve.service.inference_protocol.tensors import LENGTH

Row = tuple[Outputs, int]
"""A batch's outputs, and which of its rows is the image's."""

Values = NDArray[np.float32] | NDArray[np.bool_] | list[str]


def output_values(name: str, model: Model, rows: Sequence[Row], alpha: float) -> Values:
    """An output of a request's images, in their order: [N, C] or [N]."""
    if name == LABEL:
        return [model.labels[outputs.predicted[row]] for outputs, row in rows]
    if name == IS_OOD:
        return np.array([is_ood(outputs.deciding_p_value[row], alpha) for outputs, row in rows])
    return np.stack([getattr(outputs, name)[row] for outputs, row in rows])


def as_binary(values: Values) -> bytes:
    """Little-endian, row-major; a string after its length, as the binary extension has it."""
    if isinstance(values, list):
        texts = [text.encode() for text in values]
        return b"".join(LENGTH.pack(len(text)) + text for text in texts)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def shape_of(values: Values) -> list[int]:
    """[N, C] or [N]."""
    return [len(values)] if isinstance(values, list) else list(values.shape)


def write_answer(
    model: Model, request: InferenceRequest, rows: Sequence[Row]
) -> tuple[bytes, int | None]:
    """The body, and the bytes of its JSON where binary data follows it."""
    outputs: list[dict[str, Any]] = []
    binaries: list[bytes] = []
    for wanted in request.outputs:
        values = output_values(wanted.name, model, rows, request.alpha)
        output: dict[str, Any] = {
            "name": wanted.name,
            "datatype": DATATYPES[wanted.name],
            "shape": shape_of(values),
        }
        if wanted.binary:
            binaries.append(as_binary(values))
            output["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            output["data"] = values if isinstance(values, list) else values.ravel()
        outputs.append(output)
    document = {"model_name": model.name, "model_version": str(model.version), "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    text = as_json(document)
    return (b"".join([text, *binaries]), len(text)) if binaries else (text, None)
