"""What one trained network says of sets of images, cell by cell."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoserve.training.baselines.frozen_network import Pixels, TrainedNetwork
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, split
from isoserve.training.hold_out import evenly_spread
from isoserve.training.out_distributions import OutDistribution
from isoserve.training.reproduce.plan import Training
from isoserve.training.reproduce.scale import Scale
from isoserve.training.reproduce.store import Arrays, Store, digest
from isoserve.training.reproduce.systems import Fitted, System, TuningData


@dataclass(frozen=True)
class ImageSet:
    """Images to score, with the digest that names their cells."""

    name: str
    pixels: Pixels
    digest: str
    note: str = ""

    @classmethod
    def of(cls, out: OutDistribution) -> ImageSet:
        return cls(out.name, out.pixels, out.digest(), out.note)


class Evaluation:
    """The cells of one trained network; the network is loaded when a cell is missing."""

    def __init__(
        self, store: Store, training: Training, key: str, images: LabelledImages, scale: Scale
    ) -> None:
        self.store, self.training, self.key = store, training, key
        self.images, self.scale = images, scale
        self._fitted: dict[str, Fitted] = {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @functools.cached_property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint.load(self.store.folder("training", self.key))

    @functools.cached_property
    def network(self) -> TrainedNetwork:
        return TrainedNetwork(self.checkpoint, self.device)

    @functools.cached_property
    def tuning_data(self) -> TuningData:
        training, held_out = split(self.images, self.training.recipe)
        few = held_out.take(evenly_spread(len(held_out), self.scale.tuning_images))
        return TuningData(
            training=training.pixels,
            training_labels=training.labels,
            held_out=few.pixels,
            held_out_labels=few.labels,
            odin_steps=self.scale.odin_steps,
            mahalanobis_steps=self.scale.mahalanobis_steps,
        )

    def logits(self, images: ImageSet) -> Arrays:
        """float32 ``cold`` and ``score`` logits, both [N, C]."""

        def compute() -> Arrays:
            @torch.no_grad()
            def both(batch: Tensor) -> Tensor:
                return torch.stack(list(self.network.classifier(batch)), dim=1)  # [B, 2, C]

            found = self.network.score(both, images.pixels).astype(np.float32)
            return {"cold": found[:, 0], "score": found[:, 1]}

        return self.store.arrays("logits", digest(training=self.key, images=images.digest), compute)

    def scores(self, system: System, images: ImageSet) -> NDArray[np.float64]:
        """The system's score of each image, [N]."""
        if system.of_logits is not None:
            score_logits = torch.from_numpy(self.logits(images)["score"])
            return system.of_logits(score_logits).double().numpy()

        def compute() -> Arrays:
            return {"scores": self.network.score(self.fitted(system).scorer, images.pixels)}

        key = digest(system=self._system_key(system), images=images.digest)
        return self.store.arrays("scores", key, compute)["scores"]

    def chosen(self, system: System) -> dict[str, Any]:
        """What the system's tuning chose; empty for those without any."""
        if system.of_logits is not None:
            return {}
        key = self._system_key(system)
        return self.store.values("chosen", key, lambda: self.fitted(system).chosen)

    def fitted(self, system: System) -> Fitted:
        """The system fitted to this network, once; a search done before is not done again."""
        if system.name not in self._fitted:
            chosen = self.store.kept_values("chosen", self._system_key(system))
            data = self.tuning_data.narrowed(chosen or {})
            self._fitted[system.name] = system.fitted(self.network, data)
        return self._fitted[system.name]

    def _system_key(self, system: System) -> str:
        return digest(
            training=self.key,
            system=system.name,
            tuning_images=self.scale.tuning_images,
            odin_steps=self.scale.odin_steps,
            mahalanobis_steps=self.scale.mahalanobis_steps,
        )
