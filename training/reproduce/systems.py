"""The compared systems: a trained network and a way to score an image with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoserve.models.boundaries import boundary_score, boundary_table
from isoserve.models.combination import linear_terms
from isoserve.models.heads import SoftMaxHead
from isoserve.models.scores import entropic_score, maximum_probability
from isoserve.models.views import combined_score, density_score
from isoserve.training.baselines.adversarial import adversarial_pixels
from isoserve.training.baselines.controls import NearestNeighbours, VirtualLogit, energy
from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork
from isoserve.training.baselines.mahalanobis import fit_mahalanobis
from isoserve.training.baselines.odin import TEMPERATURES, tune_odin
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_model.feature_statistics import fit_statistics
from isoserve.training.onnx_model.fit_score import STATISTICS_IMAGES, fit_scales

Scorer = Callable[[Tensor], Tensor]
"""Normalised images [B, 3, H, W] -> [B]; higher = more in-distribution."""


@dataclass(frozen=True)
class TuningData:
    """What a system may be fitted and tuned on: never a test image, never an out-distribution."""

    training: Pixels
    training_labels: NDArray[np.int64]
    held_out: Pixels
    held_out_labels: NDArray[np.int64]
    odin_steps: tuple[float, ...]
    mahalanobis_steps: tuple[float, ...]
    odin_temperatures: tuple[float, ...] = TEMPERATURES

    def narrowed(self, chosen: dict[str, Any]) -> TuningData:
        """With nothing left to search where a search's choice is known; its result is the same."""
        if "step" not in chosen:
            return self
        step = (chosen["step"],)
        temperatures = (chosen["temperature"],) if "temperature" in chosen else TEMPERATURES
        return replace(
            self, odin_steps=step, mahalanobis_steps=step, odin_temperatures=temperatures
        )


@dataclass(frozen=True)
class Fitted:
    """A system ready to score, and what its tuning chose."""

    scorer: Scorer
    chosen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """One column of the tables, named as the papers do."""

    name: str
    loss: str
    """Of the training it scores with: one of the scale's."""
    passes: str
    """Through the network, for each image."""
    needs: str
    """Beside a training of its own loss."""
    of_logits: Callable[[Tensor], Tensor] | None = None
    """Score of score logits [N, C] -> [N], for systems that need no more."""
    fit: Callable[[TrainedNetwork, TuningData], Fitted] | None = None
    """For all others."""
    tuned: bool = False
    """Whether its settings are searched for, which costs more than a training: seed 0 only."""

    def fitted(self, network: TrainedNetwork, data: TuningData) -> Fitted:
        if self.fit is not None:
            return self.fit(network, data)
        of_logits = self.of_logits
        assert of_logits is not None  # a system has one or the other

        @torch.no_grad()
        def scorer(images: Tensor) -> Tensor:
            return of_logits(network.classifier(images).score_logits)

        return Fitted(scorer)


def _fit_odin(network: TrainedNetwork, data: TuningData) -> Fitted:
    adversarial = adversarial_pixels(network, data.held_out, data.held_out_labels)
    odin = tune_odin(network, data.held_out, adversarial, data.odin_temperatures, data.odin_steps)
    return Fitted(
        lambda images: odin.score(network, images),
        {"temperature": odin.temperature, "step": odin.step},
    )


def _fit_mahalanobis(network: TrainedNetwork, data: TuningData) -> Fitted:
    adversarial = adversarial_pixels(network, data.held_out, data.held_out_labels)
    training = (data.training, data.training_labels)
    detector = fit_mahalanobis(
        network, training, data.held_out, adversarial, data.mahalanobis_steps
    )
    return Fitted(lambda images: detector.score(network, images), {"step": detector.step})


def _fit_neighbours(network: TrainedNetwork, data: TuningData) -> Fitted:
    detector = NearestNeighbours(torch.from_numpy(_features(network, data.training)))

    @torch.no_grad()
    def scorer(images: Tensor) -> Tensor:
        return detector.score(network.classifier.backbone(images))

    return Fitted(scorer)


def _fit_virtual_logit(network: TrainedNetwork, data: TuningData) -> Fitted:
    head = network.classifier.head
    if not isinstance(head, SoftMaxHead):
        raise TypeError(f"ViM needs a linear last layer, not {type(head).__name__}")
    features = torch.from_numpy(_features(network, data.training))
    detector = VirtualLogit(head, features, torch.from_numpy(data.training_labels))

    @torch.no_grad()
    def scorer(images: Tensor) -> Tensor:
        return detector.score(network.classifier.backbone(images))

    return Fitted(scorer)


def _fit_boundary(network: TrainedNetwork, _: TuningData) -> Fitted:
    head = network.classifier.head
    table = boundary_table(head)

    @torch.no_grad()
    def scorer(images: Tensor) -> Tensor:
        cold = network.classifier(images).cold_logits
        return boundary_score(head, table, cold, cold.argmax(dim=1))

    return Fitted(scorer)


def _fit_density(network: TrainedNetwork, data: TuningData) -> Fitted:
    density = _statistics(network, data)

    @torch.no_grad()
    def scorer(images: Tensor) -> Tensor:
        return density_score(network.classifier.backbone(images), **density)

    return Fitted(scorer)


def _fit_combined(network: TrainedNetwork, data: TuningData) -> Fitted:
    """As an exported model has it: training images for the density, held-out ones for scales."""
    head = network.classifier.head
    table = boundary_table(head)
    density = _statistics(network, data)

    @torch.no_grad()
    def views(images: Tensor) -> Tensor:
        features = network.classifier.backbone(images)
        cold, score_logits = head(features)
        return torch.stack(
            (
                entropic_score(score_logits),
                boundary_score(head, table, cold, cold.argmax(dim=1)),
                density_score(features, **density),
            ),
            dim=1,
        )  # [B, V], in the order of VIEWS

    centres, spreads = fit_scales(network.score(views, data.held_out))
    factors, offsets = (
        torch.from_numpy(terms).float().to(network.device)
        for terms in linear_terms(centres, spreads)
    )
    return Fitted(lambda images: combined_score(views(images), factors, offsets))


def _statistics(network: TrainedNetwork, data: TuningData) -> dict[str, Tensor]:
    """What the density score takes, of as many training images as an export takes."""
    classes = int(data.training_labels.max()) + 1
    count = max(STATISTICS_IMAGES, 50 * classes)
    chosen = evenly_spread(len(data.training_labels), count)
    features = _features(network, data.training[chosen])
    found = fit_statistics(features, data.training_labels[chosen], classes)
    return found.tensors(network.device)


def _features(network: TrainedNetwork, pixels: Pixels) -> NDArray[np.float64]:
    with torch.no_grad():
        return network.score(lambda images: network.classifier.backbone(images), pixels)


def _least_distance(score_logits: Tensor) -> Tensor:
    return score_logits.amax(dim=1)


_TUNED = "adversarial images made from held-out ones; a search over settings"

SYSTEMS: tuple[System, ...] = (
    System("SoftMax/MPS", "softmax", "1", "nothing", maximum_probability),
    System("SoftMax/ES", "softmax", "1", "nothing", entropic_score),
    System("IsoMax/ES", "isomax", "1", "nothing", entropic_score),
    System("IsoMax2/ES", "isomax2", "1", "nothing", entropic_score),
    System("IsoMax+/MDS", "isomax+", "1", "nothing", _least_distance),
    System("IsoMax+/ES", "isomax+", "1", "nothing", entropic_score),
    System("ODIN", "softmax", "2 forward, 1 backward", _TUNED, fit=_fit_odin, tuned=True),
    System(
        "Mahalanobis",
        "softmax",
        "2 forward, 1 backward a layer",
        f"{_TUNED}; a pass over the training set",
        fit=_fit_mahalanobis,
        tuned=True,
    ),
    System(
        "ACET",
        "acet",
        "1",
        "adversarial training on noise, a pass forward and back for each attack step",
        maximum_probability,
    ),
    System("Energy", "softmax", "1", "nothing", energy),
    System("IsoMax2/MPS", "isomax2", "1", "nothing", maximum_probability),
    System("KNN/SoftMax", "softmax", "1", "the training set's features", fit=_fit_neighbours),
    System("KNN/IsoMax2", "isomax2", "1", "the training set's features", fit=_fit_neighbours),
    System("IsoMax2/boundary", "isomax2", "1", "nothing", fit=_fit_boundary),
    System("IsoMax2/density", "isomax2", "1", "a pass over training images", fit=_fit_density),
    System(
        "IsoMax2/combined",
        "isomax2",
        "1",
        "a pass over training images and one over held-out ones",
        fit=_fit_combined,
    ),
    System("ViM", "softmax", "1", "a pass over the training set", fit=_fit_virtual_logit),
)
