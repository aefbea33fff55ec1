"""Networks without their last layer, by name.

Our own names end in ``_32``: networks for small images, 32x32 in the papers. For photographs there
is ``efficientnet_lite0``, whose weights are in a package, so that no hub is needed. ``timm/NAME``
is a network of timm's, any other name one of torchvision's; their classifier is taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from isoserve.models.backbones.backbone import Backbone, Preprocessing
from isoserve.models.backbones.densenet import DenseNet
from isoserve.models.backbones.efficientnet_lite import (
    EfficientNetLite0,
    EnlargedEfficientNetLite0,
    load_imagenet_weights,
)
from isoserve.models.backbones.resnet import ResNet, ResNet9
from isoserve.models.backbones.state_dict import load_weights
from isoserve.models.backbones.timm_networks import PREFIX, timm_backbone
from isoserve.models.backbones.torchvision_networks import torchvision_backbone, torchvision_names
from isoserve.models.backbones.whitened import WhitenedResNet

__all__ = ["SMALL", "Backbone", "Preprocessing", "build_backbone"]

SMALL: dict[str, Callable[[], nn.Module]] = {
    "resnet9_32": ResNet9,
    "resnet9_wide_32": lambda: ResNet9(width=64),
    "resnet9_narrow_32": lambda: ResNet9(width=32),
    "whitened_resnet_32": WhitenedResNet,
    "resnet18_32": lambda: ResNet((2, 2, 2, 2)),
    "resnet20_32": lambda: ResNet((3, 3, 3), width=16),
    "resnet34_32": lambda: ResNet((3, 4, 6, 3)),
    "densenet22_32": lambda: DenseNet(depth=22),
    "densenet100_32": DenseNet,
}


_LITE0 = "efficientnet_lite0"
_ENLARGED_LITE0 = {"efficientnet_lite0_32": 112, "efficientnet_lite0_large_32": 160}
"""The side to which each enlarges its images; the larger is slower, and the better teacher."""
_LITE0_PIXELS = Preprocessing(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""Of the whole picture: ImageNet's 0.875 of it costs two points on held-out phone photographs."""


def build_backbone(name: str, weights: str = "none") -> Backbone:
    """Make a backbone.

    Args:
        weights: ``none`` for random ones; ``default`` for those its library publishes (those of
            torchvision and timm are downloaded once); else a file of weights.

    Raises:
        ValueError: no network of this name, its last layer is not a linear one, or the weights
            are not to be had or do not fit.
    """
    try:
        backbone = _build(name, pretrained=weights == "default")
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the weights of {name} cannot be loaded ({' '.join(str(error).split())}); give a file "
            "of weights, or none"
        ) from error
    if weights not in ("none", "default"):
        load_weights(backbone, Path(weights))
    return backbone


def _build(name: str, *, pretrained: bool) -> Backbone:
    if name in SMALL:
        if pretrained:
            raise ValueError(f"{name} has no published weights; give a file of weights, or none")
        network = SMALL[name]()
        return Backbone(network, int(network.num_features), 32)  # type: ignore[arg-type]
    if name == _LITE0:
        lite = EfficientNetLite0()
        if pretrained:
            load_imagenet_weights(lite)
        return Backbone(lite, lite.num_features, 224, _LITE0_PIXELS, ("classifier.", "_fc."))
    if name in _ENLARGED_LITE0:
        enlarged = EnlargedEfficientNetLite0(_ENLARGED_LITE0[name])
        if pretrained:
            load_imagenet_weights(enlarged.network)
        return Backbone(enlarged, enlarged.num_features, 32, _LITE0_PIXELS)
    if name.startswith(PREFIX):
        return timm_backbone(name.removeprefix(PREFIX), pretrained=pretrained)
    if name not in torchvision_names():
        raise ValueError(
            f"no network named {name!r}; ours: {', '.join((*SMALL, _LITE0, *_ENLARGED_LITE0))}; "
            f"timm's: {PREFIX}NAME; torchvision's: {', '.join(torchvision_names())}"
        )
    return torchvision_backbone(name, pretrained=pretrained)
