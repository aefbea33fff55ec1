"""Isoserve: an image classifier's server that says "I don't know".

The client's names are importable from here; they are loaded when first asked for, so that
``import isoserve`` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

__all__ = [
    "OOD",
    "AsyncClient",
    "Client",
    "Comparison",
    "Explanation",
    "ImageRefused",
    "IsoserveError",
    "ModelInfo",
    "ModelVersion",
    "Prediction",
    "Problem",
    "RequestRefused",
    "ServerBusy",
    "Unreachable",
    "Verdict",
]

_HOMES = ("isoserve.client.results", "isoserve.client.exceptions", "isoserve.client.client")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            found = getattr(import_module(home), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'isoserve' has no attribute {name!r}")
