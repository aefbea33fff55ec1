"""``import torchvision`` beside a torch that was built without its C++ operators.

The registry's torchvision wheel is built for CUDA. Beside a CPU torch its operator library does
not load, and the import dies with "operator torchvision::nms does not exist" because the package
registers a meta kernel for it. Networks, data sets and transforms need none of these operators.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_DEFINITIONS = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import ``module`` of torchvision, declaring the missing operators first where needed."""
    try:
        return importlib.import_module(module)
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _DEFINITIONS.define(schema)  # type: ignore[no-untyped-call]
    return importlib.import_module(module)
