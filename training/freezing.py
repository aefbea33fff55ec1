"""Layers that keep their weights while the rest of a network is trained."""

from __future__ import annotations

from torch import nn


def freeze(network: nn.Module, share: float) -> None:
    """Freeze that share of the layers with weights, in the order in which the network lists them.

    Networks list their layers from the input on, so the first are those that see edges and
    colours, which photographs of any kind have in common.
    """
    layers = [module for module in network.modules() if list(module.parameters(recurse=False))]
    for layer in layers[: round(share * len(layers))]:
        for weight in layer.parameters(recurse=False):
            weight.requires_grad = False


def keep_frozen(network: nn.Module) -> None:
    """Put frozen layers of a network in training mode back into evaluation mode.

    Batch normalisation would go on moving its statistics otherwise.
    """
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(weight.requires_grad for weight in own):
            module.eval()
