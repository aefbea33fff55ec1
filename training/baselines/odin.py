"""ODIN (Liang et al., ICLR 2018), tuned as Lee et al. (2018) run it.

Two passes forward and one backward: the image takes a small step towards its predicted class,
which moves in-distribution images further than others; the score is its largest probability at a
high temperature. The detector itself is pytorch-ood's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from isoserve.models.scores import maximum_probability
from isoserve.models.torchvision_import import import_torchvision
from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork
from isoserve.training.evaluation.metrics import ood_metrics

import_torchvision()
from pytorch_ood.detector.odin import odin_preprocessing  # noqa: E402

TEMPERATURES = (1.0, 10.0, 100.0, 1000.0)
STEPS = (0.0, 0.0005, 0.001, 0.0014, 0.002, 0.0024, 0.005, 0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class ODIN:
    """The score max softmax(f(x - step * sign(grad CE(f(x) / T, arg max)) / std) / T)."""

    temperature: float = 1000.0
    step: float = 0.0014
    """In [0, 1] units of a pixel."""

    def score(self, network: TrainedNetwork, images: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> [B]; higher = more in-distribution."""

        def cold_logits(x: Tensor) -> Tensor:
            logits: Tensor = network.classifier(x).cold_logits
            return logits

        if self.step:
            images = odin_preprocessing(
                cold_logits,
                images,
                eps=self.step,
                temperature=self.temperature,
                norm_std=network.std.flatten().tolist(),
            )
        with torch.no_grad():
            # In float64: at T = 1000 all probabilities lie within 1e-2 of 1 / C.
            return maximum_probability(cold_logits(images).double() / self.temperature)


def tune_odin(
    network: TrainedNetwork,
    in_pixels: Pixels,
    adversarial: Pixels,
    temperatures: tuple[float, ...] = TEMPERATURES,
    steps: tuple[float, ...] = STEPS,
) -> ODIN:
    """The setting that best tells held-out images from adversarial ones: TNR@TPR95, then AUROC."""
    candidates = [ODIN(*pair) for pair in itertools.product(temperatures, steps)]

    def quality(candidate: ODIN) -> tuple[float, float]:
        def measure(images: Tensor) -> Tensor:
            return candidate.score(network, images)

        found = ood_metrics(network.score(measure, in_pixels), network.score(measure, adversarial))
        return found.tnr_at_tpr95, found.auroc

    return max(candidates, key=quality)
