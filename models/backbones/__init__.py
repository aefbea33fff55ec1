"""Networks without their last layer, by name.

Our own names end in ``_32``: networks for small images, 32x32 in the papers. Any other name is
looked up among torchvision's classification networks, whose classifier is taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from isoserve.models.backbones.densenet import DenseNet
from isoserve.models.backbones.resnet import ResNet, ResNet9
from isoserve.models.torchvision_import import import_torchvision

SMALL: dict[str, Callable[[], nn.Module]] = {
    "resnet9_32": ResNet9,
    "resnet9_wide_32": lambda: ResNet9(width=64),
    "resnet9_narrow_32": lambda: ResNet9(width=32),
    "resnet18_32": lambda: ResNet((2, 2, 2, 2)),
    "resnet20_32": lambda: ResNet((3, 3, 3), width=16),
    "resnet34_32": lambda: ResNet((3, 4, 6, 3)),
    "densenet22_32": lambda: DenseNet(depth=22),
    "densenet100_32": DenseNet,
}


@dataclass(frozen=True)
class Backbone:
    """A network [N, 3, H, W] -> features [N, num_features], and the input size it was made for."""

    network: nn.Module
    num_features: int
    input_size: int


def build_backbone(name: str) -> Backbone:
    """Make a freshly initialised backbone.

    Raises:
        ValueError: no network of this name, or its last layer is not a linear one.
    """
    if name in SMALL:
        network = SMALL[name]()
        return Backbone(network, int(network.num_features), 32)  # type: ignore[arg-type]
    return _torchvision_backbone(name)


def _torchvision_backbone(name: str) -> Backbone:
    zoo = import_torchvision("torchvision.models")
    classification = zoo.list_models(module=zoo)
    if name not in classification:
        raise ValueError(
            f"no network named {name!r}; ours: {', '.join(SMALL)}; "
            f"torchvision's: {', '.join(classification)}"
        )
    options = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    network = zoo.get_model(name, weights=None, **options)
    path, last = next(
        (
            (path, module)
            for path, module in reversed(list(network.named_modules()))
            if not list(module.children()) and isinstance(module, (nn.Linear, nn.Conv2d))
        ),
    )
    if not isinstance(last, nn.Linear):
        raise ValueError(f"the last layer of {name!r} is no linear layer: no head can replace it")
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    crop_size = zoo.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    return Backbone(network, last.in_features, int(crop_size))


_AUXILIARY = ("googlenet", "inception_v3")
