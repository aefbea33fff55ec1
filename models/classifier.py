"""Backbone + head: the whole classifier."""

from __future__ import annotations

from torch import Tensor, nn

from isoserve.models.backbones import build_backbone
from isoserve.models.heads import HEADS, Head, Logits


class Classifier(nn.Module):
    """Normalised images float [N, 3, H, W] -> :class:`~isoserve.models.heads.Logits`."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Logits:
        logits: Logits = self.head(self.backbone(images))
        return logits


def build_classifier(
    network: str, loss: str, num_classes: int, weights: str = "none"
) -> Classifier:
    """Make a classifier with a fresh head; the backbone's weights as of ``build_backbone``.

    Raises:
        ValueError: unknown network or loss, weights that do not fit, or fewer than two classes.
    """
    if loss not in HEADS:
        raise ValueError(f"no loss named {loss!r}; there are {', '.join(HEADS)}")
    if num_classes < 2:
        raise ValueError(f"{num_classes} class: a classifier needs at least two")
    backbone = build_backbone(network, weights)
    return Classifier(backbone.network, HEADS[loss](backbone.num_features, num_classes))
