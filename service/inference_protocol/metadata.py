"""What the protocol says of the server, its models and their versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from isoserve.models.card import INPUT_NAME, OUTPUTS_BY_SCHEMA, ModelCard
from isoserve.service.inference.model import Model
from isoserve.service.repository.versions import ModelRecord, State

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ("binary_tensor_data", "model_repository")
HTTP_EXTENSIONS = (*EXTENSIONS, "model_configuration")

IS_OOD, LABEL = "is_ood", "label"
DATATYPES = {
    **{name: "FP32" for names in OUTPUTS_BY_SCHEMA.values() for name in names},
    IS_OOD: "BOOL",
    LABEL: "BYTES",
}
"""Output -> its datatype: the network's own, and the verdict and class name made of them."""

PER_CLASS = ("probabilities", "distances")
"""Outputs of shape [N, C]; the others are [N]."""

STATES: dict[State, str] = {
    "available": "UNAVAILABLE",
    "serving": "READY",
    "shadow": "UNAVAILABLE",
    "refused": "UNAVAILABLE",
    "unloaded": "UNAVAILABLE",
}


def server_metadata(extensions: Sequence[str] = EXTENSIONS) -> dict[str, Any]:
    """Name, version, and the transport's extensions."""
    return {"name": "isoserve", "version": version("isoserve"), "extensions": [*extensions]}


def input_shape(model: Model) -> list[int]:
    """[H, W, 3]."""
    return [model.card.input.height, model.card.input.width, 3]


def output_shape(model: Model, name: str) -> list[int]:
    """Without the batch: [C] or []."""
    return [len(model.labels)] if name in PER_CLASS else []


def outputs_of(card: ModelCard) -> tuple[str, ...]:
    """The names of a model's outputs: what its file gives, the verdict and the class name."""
    return (*card.output_names, IS_OOD, LABEL)


def model_metadata(model: Model) -> dict[str, Any]:
    """Inputs and outputs; -1 is the batch. ``images`` may also be BYTES [-1]."""
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [-1, *input_shape(model)]}],
        "outputs": [
            {"name": name, "datatype": DATATYPES[name], "shape": [-1, *output_shape(model, name)]}
            for name in outputs_of(model.card)
        ],
    }


def model_config(model: Model, most_images: int) -> dict[str, Any]:
    """The part of Triton's model configuration that its clients and perf_analyzer read."""
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": most_images,
        "input": [{"name": INPUT_NAME, "data_type": "TYPE_UINT8", "dims": input_shape(model)}],
        "output": [
            {
                "name": name,
                "data_type": "TYPE_STRING" if name == LABEL else f"TYPE_{DATATYPES[name]}",
                "dims": output_shape(model, name) or [1],
            }
            for name in outputs_of(model.card)
        ],
    }


def repository_index(records: Iterable[ModelRecord], only_ready: bool) -> list[dict[str, str]]:
    """Every version of every model, lowest first."""
    return [
        {
            "name": record.name,
            "version": str(known.version),
            "state": STATES[known.state],
            "reason": known.detail or ("" if known.state == "serving" else known.state),
        }
        for record in sorted(records, key=lambda record: record.name)
        for known in sorted([*record.versions.values()], key=lambda known: known.version)
        if known.state == "serving" or not only_ready
    ]
