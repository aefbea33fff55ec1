"""The Mahalanobis detector (Lee et al., NeurIPS 2018): feature ensemble, input step, regression.

Each of several layers gets a Gaussian a class with one tied covariance over its spatially averaged
features. An image takes a small step towards the nearest class mean of a layer before it is scored
there, and a logistic regression weighs the layers. Regression and step are chosen on adversarial
images in place of OOD data. pytorch-ood's multi-layer detector has neither step nor regression.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from isoserve.models.backbones.densenet import DenseNet
from isoserve.models.backbones.resnet import BasicBlock, ResNet, ResNet9
from isoserve.models.errors import InputError
from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork
from isoserve.training.evaluation.metrics import ood_metrics

STEPS = (0.0, 0.01, 0.005, 0.002, 0.0014, 0.001, 0.0005)


def feature_layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers whose outputs are scored.

    DenseNet: first convolution, both transitions, last ReLU (24, 108, 150, 342 channels in
    DenseNet-BC-100). ResNet: stem and the last block of each stage (64, 64, 128, 256, 512 in
    ResNet34). ResNet9: each of its six parts.

    Raises:
        InputError: another kind of network.
    """
    if isinstance(backbone, DenseNet):
        layers = list(backbone.layers)
        pools = [layer for layer in layers if isinstance(layer, nn.AvgPool2d)]
        return [layers[0], *pools, layers[-1]]
    if isinstance(backbone, ResNet9):
        return list(backbone.layers)
    if isinstance(backbone, ResNet):
        layers = list(backbone.layers)
        blocks = [layer for layer in layers if isinstance(layer, BasicBlock)]
        last = [
            block
            for block, following in zip(blocks, [*blocks[1:], None], strict=True)
            if following is None or following.conv1.stride != (1, 1)
        ]
        return [layers[2], *last]
    raise InputError(
        f"no feature ensemble is known for {type(backbone).__name__}; Mahalanobis needs one of "
        "our ResNets or DenseNets"
    )


@dataclass(frozen=True)
class LayerGaussian:
    """Class means [C, D] and the tied precision [D, D] of a layer's averaged features."""

    means: Tensor
    precision: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> LayerGaussian:
        """From features [N, D] and labels int64 [N]; every class occurs."""
        features = features.double()
        means = torch.stack([features[labels == k].mean(dim=0) for k in range(classes)])
        centred = features - means[labels]
        covariance = centred.T @ centred / len(features)
        # The pseudo-inverse: a channel that is never active has no variance.
        return cls(means, torch.linalg.pinv(covariance, hermitian=True))

    def log_density(self, features: Tensor) -> Tensor:
        """max over classes of -(f - mean)' precision (f - mean) / 2, float64; [N, D] -> [N]."""
        centred = features.double().unsqueeze(1) - self.means  # [N, C, D]
        squared = torch.einsum("ncd,de,nce->nc", centred, self.precision, centred)
        return -0.5 * squared.amin(dim=1)


@dataclass(frozen=True)
class Mahalanobis:
    """A fitted detector."""

    gaussians: list[LayerGaussian]
    regression: Pipeline
    step: float
    """In [0, 1] units of a pixel."""

    def score(self, network: TrainedNetwork, images: Tensor) -> Tensor:
        """Log-odds of in-distribution: normalised [B, 3, H, W] -> float64 [B]."""
        layers = layer_scores(network, self.gaussians, images, self.step)
        return torch.from_numpy(self.regression.decision_function(layers.cpu().numpy()))


def fit_mahalanobis(
    network: TrainedNetwork,
    training: tuple[Pixels, NDArray[np.int64]],
    in_pixels: Pixels,
    adversarial: Pixels,
    steps: tuple[float, ...] = STEPS,
) -> Mahalanobis:
    """Gaussians on training images; regression and step on held-out against adversarial ones.

    The regression is fitted on every other image of both and the step chosen on the rest, by
    TNR@TPR95, then AUROC.
    """
    gaussians = fit_gaussians(network, *training)
    best: tuple[tuple[float, float], Mahalanobis] | None = None
    for step in steps:

        def measure(images: Tensor, step: float = step) -> Tensor:
            return layer_scores(network, gaussians, images, step)

        inside, outside = network.score(measure, in_pixels), network.score(measure, adversarial)
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        regression.fit(
            np.concatenate([inside[::2], outside[::2]]),
            np.repeat([1, 0], [len(inside[::2]), len(outside[::2])]),
        )
        decide = regression.decision_function
        found = ood_metrics(decide(inside[1::2]), decide(outside[1::2]))
        quality = (found.tnr_at_tpr95, found.auroc)
        if best is None or quality > best[0]:
            best = quality, Mahalanobis(gaussians, regression, step)
    if best is None:
        raise ValueError("no steps to choose from: give at least one")
    return best[1]


def fit_gaussians(
    network: TrainedNetwork, pixels: Pixels, labels: NDArray[np.int64]
) -> list[LayerGaussian]:
    """One Gaussian family a layer, from isoserve.training images and their labels."""
    parts: list[list[Tensor]] = []
    with torch.no_grad(), _recorded(network) as outputs:
        for images in network.batches(pixels):
            network.classifier(images)
            parts.append([_spatial_mean(output) for output in outputs])
            outputs.clear()
    targets = torch.from_numpy(labels).to(network.device)
    classes = network.classifier.head.num_classes
    return [
        LayerGaussian.fit(torch.cat(layer), targets, classes) for layer in zip(*parts, strict=True)
    ]


def layer_scores(
    network: TrainedNetwork, gaussians: list[LayerGaussian], images: Tensor, step: float
) -> Tensor:
    """Each layer's log density after that layer's own input step, [B, 3, H, W] -> [B, L]."""
    scores = []
    for index, gaussian in enumerate(gaussians):

        def log_density(
            x: Tensor, index: int = index, gaussian: LayerGaussian = gaussian
        ) -> Tensor:
            with _recorded(network) as outputs:
                network.classifier.backbone(x)
                return gaussian.log_density(_spatial_mean(outputs[index]))

        moved = images
        if step:
            _, gradient = network.gradient(images, log_density)
            moved = images + step / network.std * gradient.sign()
        with torch.no_grad():
            scores.append(log_density(moved))
    return torch.stack(scores, dim=1)


@contextmanager
def _recorded(network: TrainedNetwork) -> Iterator[list[Tensor]]:
    """Collect the outputs of the feature layers, in order, while the block runs."""
    outputs: list[Tensor] = []

    def record(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.append(output)

    hooks = [
        layer.register_forward_hook(record) for layer in feature_layers(network.classifier.backbone)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _spatial_mean(output: Tensor) -> Tensor:
    return output.mean(dim=(2, 3))
