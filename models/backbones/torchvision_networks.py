"""torchvision's classification networks, their classifier taken off."""

from __future__ import annotations

from types import ModuleType

from torch import nn

from isoserve.models.backbones.backbone import Backbone, Preprocessing
from isoserve.models.torchvision_import import import_torchvision

_CLASSIFIERS = ("fc", "classifier", "heads", "head")
"""What torchvision's networks call their classifier."""

_AUXILIARY = ("googlenet", "inception_v3")
"""Networks with a second classifier for training, which an own head has no use for."""


def torchvision_names() -> list[str]:
    zoo = import_torchvision("torchvision.models")
    names: list[str] = zoo.list_models(module=zoo)
    return names


def torchvision_backbone(name: str, *, pretrained: bool) -> Backbone:
    """A network of torchvision's, with its default weights (downloaded once) or random ones.

    Raises:
        OSError, RuntimeError: the weights could not be downloaded.
        ValueError: its classifier does not end in a linear layer.
    """
    zoo = import_torchvision("torchvision.models")
    options: dict[str, bool] = {}
    if name in _AUXILIARY:
        options = (
            {"aux_logits": False} if pretrained else {"aux_logits": False, "init_weights": True}
        )
    network: nn.Module = zoo.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    attribute = next(each for each in _CLASSIFIERS if hasattr(network, each))
    num_features = _take_off(network, attribute, name)
    preprocessing, size = _preprocessing(zoo, name)
    return Backbone(network, num_features, size, preprocessing, (f"{attribute}.", *_aux_keys(name)))


def _take_off(network: nn.Module, attribute: str, name: str) -> int:
    """Replace the last layer of the classifier; returns how many features came to it."""
    owner, key, last = network, attribute, network.get_submodule(attribute)
    while list(last.named_children()):
        owner, (key, last) = last, list(last.named_children())[-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"the last layer of {name!r} is not linear: no head can replace it")
    setattr(owner, key, nn.Identity())
    return last.in_features


def _preprocessing(zoo: ModuleType, name: str) -> tuple[Preprocessing, int]:
    transforms = zoo.get_model_weights(name).DEFAULT.transforms()
    size, resized = transforms.crop_size[0], transforms.resize_size[0]
    crop = min(size / resized, 1.0)
    return Preprocessing(tuple(transforms.mean), tuple(transforms.std), crop), int(size)


def _aux_keys(name: str) -> tuple[str, ...]:
    return ("aux1.", "aux2.", "AuxLogits.") if name in _AUXILIARY else ()
