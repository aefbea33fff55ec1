"""Networks of the timm library, by ``timm/NAME``, their classifier taken off."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import nn

from isoserve.models.backbones.backbone import Backbone, Preprocessing
from isoserve.models.torchvision_import import import_torchvision

PREFIX = "timm/"


def timm_backbone(name: str, *, pretrained: bool) -> Backbone:
    """timm's network ``name``, with its published weights (downloaded once) or random ones.

    Raises:
        OSError, RuntimeError: the weights could not be downloaded, or there are none.
        ValueError: timm is not installed, or knows no such network.
    """
    timm = _import_timm()
    if not timm.is_model(name):
        raise ValueError(
            f"timm {timm.__version__} has no network {name!r}; timm.list_models() has their names"
        )
    network: nn.Module = timm.create_model(name, pretrained=pretrained)
    network.reset_classifier(0)  # type: ignore[operator]
    config = timm.data.resolve_model_data_config(network)
    size = int(config["input_size"][-1])
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 3, size, size))
    network.train()
    mean, std = tuple(config["mean"]), tuple(config["std"])
    heads = network.default_cfg["classifier"]  # type: ignore[index]
    names = (heads,) if isinstance(heads, str) else tuple(heads or ())
    return Backbone(
        network,
        int(features.shape[1]),
        size,
        Preprocessing(mean, std, min(float(config["crop_pct"]), 1.0)),
        tuple(f"{each}." for each in names),
    )


def _import_timm() -> ModuleType:
    import_torchvision()  # timm imports it, and beside a CPU torch that may need a guard
    try:
        import timm
        import timm.data
    except ModuleNotFoundError as error:
        raise ValueError(f"networks {PREFIX}... need timm: pip install 'isoserve[timm]'") from error
    module: ModuleType = timm
    return module
