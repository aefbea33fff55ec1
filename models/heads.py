"""Last layers: features -> logits for the class and logits for the out-of-distribution score.

Every head is a drop-in replacement for a network's last linear layer. From one set of distances
it gives *cold logits*, which train the network and name the class, and *score logits*, from which
:mod:`isoserve.models.scores` tells how far an image is from everything the network knows.

[IsoMax]  Macêdo et al., "Isotropy Maximization Loss and Entropic Score", 2021.
[IsoMax2] Macêdo et al., "Hyperparameter-Free Isotropic Maximization Loss".
[IsoMax+] Macêdo and Ludermir, "Enhanced Isotropy Maximization Loss", 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Logits(NamedTuple):
    """What a head returns; all float32 [N, C]."""

    cold_logits: Tensor
    """For the loss, the class (arg max) and its probability."""
    score_logits: Tensor
    """For the out-of-distribution score, at temperature 1, without scales or tilts."""


class Head(nn.Module):
    """A head takes features [N, D] of any float type and computes in float32.

    The entropic score lives in a band a few tenths of a nat wide, which bfloat16 would cut into
    some 40 values, so a head steps out of any autocast region.
    """

    num_features: int
    num_classes: int

    def forward(self, features: Tensor) -> Logits:
        with torch.autocast(features.device.type, enabled=False):
            return self.logits(features.float())

    def logits(self, features: Tensor) -> Logits:
        raise NotImplementedError

    def loss(
        self,
        logits: Logits,
        targets: Tensor,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Mean -log softmax(cold logits)[target], in nats; targets int64 [N], or shares [N, C].

        ``label_smoothing`` in [0, 1) is the share of a target that is spread over all classes;
        ``class_weights`` [C] makes the mean a weighted one.

        The fused form: finite at any gap between logits, where -log(softmax(z)) is infinite from
        a gap of 104 and its gradient NaN from 88.7.
        """
        return F.cross_entropy(
            logits.cold_logits, targets, class_weights, label_smoothing=label_smoothing
        )


class SoftMaxHead(Head):
    """The usual linear layer z = Wf + b; both kinds of logits are z."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_features, self.num_classes = num_features, num_classes
        self.linear = nn.Linear(num_features, num_classes)

    def logits(self, features: Tensor) -> Logits:
        z = self.linear(features)
        return Logits(cold_logits=z, score_logits=z)


class IsoMaxHead(Head):
    """Cold logits -E_s d_j, score logits -d_j, d_j = ||f - p_j||; E_s = 10 ([IsoMax] eq. 3, 5)."""

    def __init__(self, num_features: int, num_classes: int, entropic_scale: float = 10.0) -> None:
        super().__init__()
        self.num_features, self.num_classes = num_features, num_classes
        self.entropic_scale = entropic_scale
        self.prototypes = nn.Parameter(torch.zeros(num_classes, num_features))

    def logits(self, features: Tensor) -> Logits:
        distances = prototype_distances(features, self.prototypes)
        return Logits(cold_logits=-self.entropic_scale * distances, score_logits=-distances)


class IsoMax2Head(Head):
    """Cold logits -s_j d_j - t_j with learned scale and tilt per class ([IsoMax2] eq. 4, 5).

    Score logits are -d_j: eq. 6 of the paper prints exp(+d), a misprint against its own text and
    [IsoMax] eq. 5. Predict by arg max of the cold logits, never by the nearest prototype: the two
    differ where scales and tilts differ.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.num_features, self.num_classes = num_features, num_classes
        self.prototypes = nn.Parameter(torch.zeros(num_classes, num_features))
        self.scales = nn.Parameter(torch.full((num_classes,), 10.0))
        self.tilts = nn.Parameter(torch.zeros(num_classes))

    def logits(self, features: Tensor) -> Logits:
        distances = prototype_distances(features, self.prototypes)
        return Logits(cold_logits=-self.scales * distances - self.tilts, score_logits=-distances)


class IsoMaxPlusHead(Head):
    """IsoMax on normalised features and prototypes with one learned distance scale ([IsoMax+])."""

    def __init__(self, num_features: int, num_classes: int, entropic_scale: float = 10.0) -> None:
        super().__init__()
        self.num_features, self.num_classes = num_features, num_classes
        self.entropic_scale = entropic_scale
        # A zero vector has no direction, so these prototypes start at random.
        self.prototypes = nn.Parameter(torch.randn(num_classes, num_features))
        self.distance_scale = nn.Parameter(torch.ones(1))

    def logits(self, features: Tensor) -> Logits:
        distances = self.distance_scale.abs() * prototype_distances(
            F.normalize(features), F.normalize(self.prototypes)
        )
        return Logits(cold_logits=-self.entropic_scale * distances, score_logits=-distances)


HEADS: dict[str, type[SoftMaxHead | IsoMaxHead | IsoMaxPlusHead | IsoMax2Head]] = {
    "softmax": SoftMaxHead,
    "isomax": IsoMaxHead,
    "isomax+": IsoMaxPlusHead,
    "isomax2": IsoMax2Head,
}


def prototype_distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Euclidean (not squared) distances [N, C] of features [N, D] to prototypes [C, D].

    Exact at any batch size and finite in its gradient at distance zero, which neither the
    expanded quadratic nor ``torch.cdist`` is.
    """
    differences = features.unsqueeze(1) - prototypes  # [N, C, D]
    distances: Tensor = torch.linalg.vector_norm(differences, dim=-1)  # [N, C]
    return distances
