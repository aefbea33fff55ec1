"""A classifier as an ``nn.Module`` -> its ONNX graph, the features an output of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from isoserve.models.errors import InputError
from isoserve.models.heads import Logits
from isoserve.models.text import printable
from isoserve.training.onnx_model.export import to_onnx
from isoserve.training.wrapping.network import ForeignNetwork, prepare
from isoserve.training.wrapping.preprocessing import Layout

LAST_LAYERS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call their classifier, whose last layer is the linear one."""

_INPUT, _LOGITS, _FEATURES = "input", "logits", "features"


def network_of_module(
    module: nn.Module, layout: Layout, size: tuple[int, int], features: str | None
) -> ForeignNetwork:
    """Export a copy of the module; its own device, mode and weights stay.

    Args:
        features: name of the last linear layer, whose input is taken, or of the submodule whose
            output the features are; found if not given.

    Raises:
        InputError: no such submodule, no linear layer, or a module that cannot be exported.
    """
    name = type(module).__name__
    copied = copy.deepcopy(module).cpu().float().eval()
    traced = _WithFeatures(copied, _layer(copied, features))
    height, width = size
    shape = (2, 3, height, width) if layout == "nchw" else (2, height, width, 3)
    try:
        model = to_onnx(traced, torch.zeros(shape), (_LOGITS, _FEATURES), _INPUT)
    except InputError:
        raise
    except Exception as error:  # the exporter passes on whatever the module raises
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"the {name} cannot be exported for images {list(shape)}: {printable(said)}"
        ) from error
    del model.graph.output[1]  # an inner tensor like any other
    return ForeignNetwork(prepare(model, name), name, _FEATURES)


class _WithFeatures(nn.Module):
    """The module's logits, and what one layer takes or gives while they are made."""

    def __init__(self, module: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.taken: list[Tensor] = []
        linear = isinstance(layer, nn.Linear)

        def keep(_: nn.Module, given: tuple[Any, ...], found: Any) -> None:
            self.taken.append(given[0] if linear else found)

        layer.register_forward_hook(keep)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.taken.clear()
        found: Any = self.module(images)
        if isinstance(found, Logits):
            found = found.cold_logits
        logits = getattr(found, "logits", found)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise InputError(
                f"the {type(self.module).__name__} returns a {type(found).__name__}; it must "
                "return logits or probabilities [N, C]"
            )
        if len(self.taken) != 1:
            raise InputError(
                f"the layer of the features runs {len(self.taken)} times for one batch: name the "
                "last linear layer, which runs once, by features"
            )
        features = self.taken[0]
        # An output by itself, or the exporter may give it the name of the node before it.
        return logits, features.flatten(1) + 0.0


def _layer(module: nn.Module, name: str | None) -> nn.Module:
    shown = type(module).__name__
    if name is not None:
        try:
            return module.get_submodule(name)
        except AttributeError as error:
            raise InputError(
                f"the {shown} has no submodule {printable(name)!r}; name its last linear layer"
            ) from error
    door = getattr(module, "get_classifier", None)  # timm's
    found = door() if callable(door) else None
    for attribute in LAST_LAYERS:
        if isinstance(found, nn.Linear):
            return found
        part = getattr(module, attribute, None)
        linear = (
            [each for each in part.modules() if isinstance(each, nn.Linear)]
            if isinstance(part, nn.Module)
            else []
        )
        found = linear[-1] if linear else None
    if isinstance(found, nn.Linear):
        return found
    linear = [each for each in module.modules() if isinstance(each, nn.Linear)]
    if not linear:
        raise InputError(
            f"the {shown} has no linear layer: name the submodule whose output the features are "
            "by features"
        )
    return linear[-1]
