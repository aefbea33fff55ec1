"""Isoserve: image classifiers that say "I don't know", from training to serving.

    import isoserve as iso

    model = iso.load("model.onnx")              # judge images in this process, without torch
    client = iso.Client("http://localhost:8000")  # or ask a server

    net = iso.Classifier(backbone, iso.IsoMax2Head(512, 10))      # or make a model: own network,
    iso.export(net, "model.onnx", calibration="held-out/", ...)   # own training loop
    iso.wrap("softmax.onnx", "model.onnx", images="photos/")      # a classifier you have already

Each name below is loaded when it is first used, so that ``import isoserve`` costs nothing and
torch is needed for the last two groups alone: ``pip install 'isoserve[train]'``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before any import of onnxruntime, which else writes a device's id and its events into the home.
if not os.environ.get("ORT_DISABLE_TELEMETRY"):
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    from isoserve.client.client import AsyncClient, Client
    from isoserve.client.exceptions import (
        ImageRefused,
        IsoserveError,
        RequestRefused,
        ServerBusy,
        Unreachable,
    )
    from isoserve.client.results import (
        OOD,
        Comparison,
        Explanation,
        ModelInfo,
        ModelVersion,
        Prediction,
        Problem,
        Verdict,
    )
    from isoserve.local_model import LocalModel, load
    from isoserve.models.classifier import Classifier
    from isoserve.models.errors import InputError
    from isoserve.models.heads import (
        IsoMax2Head,
        IsoMaxHead,
        IsoMaxPlusHead,
        Logits,
        SoftMaxHead,
    )
    from isoserve.models.scores import entropic_score
    from isoserve.training.onnx_model.network_export import export
    from isoserve.training.wrapping.wrap import wrap

_HOMES = {
    # Ask a server.
    "Client": "isoserve.client.client",
    "AsyncClient": "isoserve.client.client",
    # Judge images here.
    "load": "isoserve.local_model",
    "LocalModel": "isoserve.local_model",
    # What both answer.
    "Verdict": "isoserve.client.results",
    "Prediction": "isoserve.client.results",
    "OOD": "isoserve.client.results",
    "Explanation": "isoserve.client.results",
    "Problem": "isoserve.client.results",
    "ModelInfo": "isoserve.client.results",
    "ModelVersion": "isoserve.client.results",
    "Comparison": "isoserve.client.results",
    # What both raise.
    "InputError": "isoserve.models.errors",
    "IsoserveError": "isoserve.client.exceptions",
    "ImageRefused": "isoserve.client.exceptions",
    "RequestRefused": "isoserve.client.exceptions",
    "ServerBusy": "isoserve.client.exceptions",
    "Unreachable": "isoserve.client.exceptions",
    # Train a network of your own.
    "Classifier": "isoserve.models.classifier",
    "SoftMaxHead": "isoserve.models.heads",
    "IsoMaxHead": "isoserve.models.heads",
    "IsoMaxPlusHead": "isoserve.models.heads",
    "IsoMax2Head": "isoserve.models.heads",
    "Logits": "isoserve.models.heads",
    "entropic_score": "isoserve.models.scores",
    # Make a model file of it.
    "export": "isoserve.training.onnx_model.network_export",
    # Or of a classifier that was trained elsewhere, as it is.
    "wrap": "isoserve.training.wrapping.wrap",
}
"""Public name -> the module it is defined in."""

__all__ = [  # noqa: RUF022 - in the order of a table of contents
    "Client",
    "AsyncClient",
    "load",
    "LocalModel",
    "Verdict",
    "Prediction",
    "OOD",
    "Explanation",
    "Problem",
    "ModelInfo",
    "ModelVersion",
    "Comparison",
    "InputError",
    "IsoserveError",
    "ImageRefused",
    "RequestRefused",
    "ServerBusy",
    "Unreachable",
    "Classifier",
    "SoftMaxHead",
    "IsoMaxHead",
    "IsoMaxPlusHead",
    "IsoMax2Head",
    "Logits",
    "entropic_score",
    "export",
    "wrap",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'isoserve' has no attribute {name!r}")
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        from isoserve.extras import missing_extra

        missing = missing_extra(f"isoserve.{name}", error)
        if missing is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
