"""What a batch is trained towards: the labels, and a teacher's probabilities where there is one."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from isoserve.models.errors import InputError
from isoserve.models.heads import Head, Logits
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.recipe import Recipe

TEMPERATURE = 4.0
"""Of distillation (Hinton et al., 2015): what a sure teacher knows lies in its small numbers."""


class Objective:
    """A recipe's loss; ``weights`` [C] are the classes', None where they weigh the same.

    Raises:
        InputError: the recipe's teacher is not a run, or of other classes or another image size.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        head: Head,
        start: Checkpoint,
        weights: Tensor | None = None,
    ) -> None:
        self.fabric, self.recipe, self.head = fabric, recipe, head
        self.weights = None if weights is None else weights.to(fabric.device)
        self.teacher: Checkpoint | None = None
        self.network: nn.Module | None = None
        if recipe.teacher is not None:
            self.teacher = _teacher(Path(recipe.teacher), start)
            network = self.teacher.classifier().to(fabric.device)
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.scale, self.shift = _between(start, self.teacher, fabric.device)

    def loss(self, logits: Logits, targets: Tensor, inputs: Tensor) -> Tensor:
        """Mean over the batch, in nats.

        Args:
            logits: of ``inputs``.
            targets: int64 [B], or shares [B, C] of mixed images.
            inputs: what the network saw, [B, 3, H, W]; the teacher judges the very same crop and
                mixture, so that its answers fit and are many (Beyer et al., "Knowledge
                Distillation: A Good Teacher is Patient and Consistent", 2022).
        """
        if self.recipe.normalise_distances:
            logits = _normalised(logits)
        loss = self.head.loss(logits, targets, self.recipe.label_smoothing, self.weights)
        if self.network is None or self.teacher is None:
            return loss
        with torch.no_grad(), self.fabric.autocast():
            taught: Logits = self.network(inputs * self.scale + self.shift)
        divergence = F.kl_div(
            (logits.cold_logits / TEMPERATURE).log_softmax(dim=1),
            (taught.cold_logits / TEMPERATURE).log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )
        weight = self.recipe.teacher_weight
        return (1 - weight) * loss + weight * TEMPERATURE**2 * divergence


def _normalised(logits: Logits) -> Logits:
    """Cold logits divided by an image's mean distance to the prototypes.

    ELogitNorm's idea (Ding et al., 2025) for distances: features then cannot lower the loss by
    growing, only by turning towards their class. In training alone: the score needs the length.
    """
    mean = -logits.score_logits.mean(dim=1, keepdim=True)
    return logits._replace(cold_logits=logits.cold_logits / mean.clamp(min=1e-6))


def _teacher(run: Path, start: Checkpoint) -> Checkpoint:
    teacher = Checkpoint.load(run)
    if teacher.classes != start.classes or teacher.input != start.input:
        raise InputError(
            f"--teacher {run} was trained on {len(teacher.classes)} classes of "
            f"{teacher.input['height']}x{teacher.input['width']} pixels; a teacher must have the "
            f"same classes as the images, in the same size ({len(start.classes)} of "
            f"{start.input['height']}x{start.input['width']})"
        )
    return teacher


def _between(start: Checkpoint, teacher: Checkpoint, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift [1, 3, 1, 1] from one's normalised images to the other's."""
    mean, std, taught_mean, taught_std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (start.mean, start.std, teacher.mean, teacher.std)
    )
    return std / taught_std, (mean - taught_mean) / taught_std
