"""Modern post-hoc scores as controls; pytorch-ood's detectors with our sign.

They need one pass (KNN and ViM also a fit on training features) and no OOD data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isoserve.models.heads import SoftMaxHead
from isoserve.models.torchvision_import import import_torchvision

import_torchvision()
from pytorch_ood.detector import KNN, EnergyBased, ViM  # noqa: E402

NEIGHBOURS = 50
"""k of KNN; what Sun et al. (ICML 2022) use for CIFAR-10."""


def energy(logits: Tensor) -> Tensor:
    """log sum exp of the logits, [N, C] -> [N] (Liu et al., NeurIPS 2020)."""
    outlier_scores: Tensor = EnergyBased.score(logits)
    return -outlier_scores


class NearestNeighbours:
    """Minus the distance to the k-th nearest normalised training feature (Sun et al., 2022)."""

    def __init__(self, features: Tensor, k: int = NEIGHBOURS) -> None:
        # No tree: it has lost its advantage at hundreds of dimensions.
        self.detector = KNN(None, k=min(k, len(features)), algorithm="brute")
        known = torch.zeros(len(features), dtype=torch.int64)
        self.detector.fit_features(features.float().cpu(), known)

    def score(self, features: Tensor) -> Tensor:
        """Features [N, D] -> [N]."""
        distances: Tensor = self.detector.predict_features(features.float())
        return -distances


class VirtualLogit:
    """ViM (Wang et al., CVPR 2022): energy minus the scaled residual outside the main subspace."""

    def __init__(self, head: SoftMaxHead, features: Tensor, labels: Tensor) -> None:
        linear = head.linear
        # Half of the dimensions, as the authors do for features of 1,500 and fewer.
        self.detector = ViM(None, features.shape[1] // 2, linear.weight, linear.bias)
        self.detector.fit_features(features.float(), labels)

    def score(self, features: Tensor) -> Tensor:
        """Features [N, D] -> [N]."""
        outlier_scores: Tensor = self.detector.predict_features(features)
        return -outlier_scores
