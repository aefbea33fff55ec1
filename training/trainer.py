"""The training loop, on whatever devices Lightning Fabric is given.

Every random choice comes from (seed, epoch, step), and a checkpoint is written after each epoch:
a run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from isoserve.models.backbones.whitened import WhitenedResNet
from isoserve.models.card import InputSpec
from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.baselines.acet import (
    largest_log_probability,
    most_confident,
    noise_images,
    split_logits,
)
from isoserve.training.batches import (
    ResidentImages,
    channel_statistics,
    epoch_batches,
    mixed_seed,
    normalise,
)
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.class_weights import class_weights
from isoserve.training.data import LabelledImages, split
from isoserve.training.freezing import freeze, keep_frozen
from isoserve.training.hold_out import evenly_spread
from isoserve.training.metrics_file import write_metrics
from isoserve.training.moving_average import moving_average
from isoserve.training.objective import Objective
from isoserve.training.optimizers import make_optimizer
from isoserve.training.photo_views import held_larger
from isoserve.training.progress import Progress
from isoserve.training.recipe import Recipe
from isoserve.training.running_means import RunningMeans
from isoserve.training.training_views import TrainingViews


def fit(
    fabric: Fabric, recipe: Recipe, source: str, images: LabelledImages, output: Path
) -> Checkpoint:
    """Train to the recipe's last epoch, going on from ``output``'s checkpoint if there is one.

    Returns:
        The last checkpoint, also saved in ``output``.

    Raises:
        InputError: the checkpoint there was made by another recipe or from other images, or the
            images are too few.
    """
    checkpoint = start_run(recipe, source, images, output)
    if checkpoint.epoch and not checkpoint.optimizer:
        raise InputError(
            f"{output} holds an average of runs, which cannot be trained on; choose "
            "another --output"
        )
    if recipe.batch_size % fabric.world_size:
        raise InputError(
            f"batch size {recipe.batch_size} does not divide over {fabric.world_size} processes"
        )
    training, held_out = split(images, recipe)
    torch.manual_seed(recipe.seed)
    classifier = recipe.starting_classifier(len(images.classes))
    if recipe.optimizer == "muon" and isinstance(classifier.backbone, WhitenedResNet):
        classifier.backbone.whiten(_sample(training, checkpoint))
    classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(classifier.backbone, recipe.freeze)
    optimizer = make_optimizer(classifier, recipe)
    if checkpoint.epoch:
        classifier.load_state_dict(checkpoint.weights)
    if recipe.compile:
        classifier.compile()
    model, fabric_optimizer = fabric.setup(classifier, optimizer)
    if checkpoint.epoch:
        # After the weights have moved: momenta are loaded to where the weights then are.
        optimizer.load_state_dict(checkpoint.optimizer)
    steps = sum(1 for _ in epoch_batches(len(training), recipe, 0))
    average = moving_average(classifier, recipe, checkpoint, steps)
    precision = fabric.strategy.precision
    if checkpoint.loss_scale:
        precision.load_state_dict(checkpoint.loss_scale)
    weights = class_weights(recipe.class_weights, training.labels, len(images.classes))
    epoch_of = _Epoch(
        fabric,
        recipe,
        classifier,
        model,
        fabric_optimizer,
        checkpoint,
        average,
        TrainingViews(recipe, len(training), checkpoint),
        Objective(fabric, recipe, classifier.head, checkpoint, weights),
    )
    if recipe.augmentation == "photo":
        training = replace(training, pixels=held_larger(training, checkpoint.input_spec()))
    resident = ResidentImages(fabric, training)
    with Progress(recipe, len(training), enabled=fabric.is_global_zero) as progress:
        progress.resume(checkpoint.epoch)
        for epoch in range(checkpoint.epoch, recipe.epochs):
            row = epoch_of.train(resident, epoch, progress)
            row |= evaluate_split(fabric, average or model, held_out, checkpoint)
            checkpoint = replace(
                checkpoint,
                history=[*checkpoint.history, row],
                weights=classifier.state_dict(),
                optimizer=optimizer.state_dict(),
                loss_scale=precision.state_dict(),
                averaged=average.module.state_dict() if average else {},
            )
            if fabric.is_global_zero:
                checkpoint.save(output)
                write_metrics(checkpoint.history, output)
                fabric.log_dict(row, step=checkpoint.epoch)
            progress.end_epoch(epoch, row)
            fabric.barrier()
    return checkpoint


@torch.no_grad()
def evaluate_split(
    fabric: Fabric, model: nn.Module, images: LabelledImages, checkpoint: Checkpoint
) -> dict[str, float]:
    """Loss, accuracy and mean entropy on a split; every process takes the same images."""
    model.eval()
    running = RunningMeans(fabric)
    resident = ResidentImages(fabric, images)
    for start in range(0, len(images), 256):
        indices = np.arange(start, min(start + 256, len(images)))
        pixels, targets = resident.batch(indices)
        with fabric.autocast():
            logits = model(normalise(pixels, checkpoint))
        running.add(torch.nn.functional.cross_entropy(logits.cold_logits, targets), logits, targets)
    return {f"held_out_{key}": value for key, value in running.means().items()}


@dataclass
class _Epoch:
    """One pass over the training images."""

    fabric: Fabric
    recipe: Recipe
    classifier: Classifier
    model: nn.Module
    optimizer: Any
    checkpoint: Checkpoint
    average: AveragedModel | None
    views: TrainingViews
    objective: Objective

    def train(self, images: ResidentImages, epoch: int, progress: Progress) -> dict[str, float]:
        recipe, fabric = self.recipe, self.fabric
        torch.manual_seed(mixed_seed(recipe.seed, epoch, fabric.global_rank))  # dropout
        self.model.train()
        keep_frozen(self.classifier.backbone)
        running, began = RunningMeans(fabric), time.perf_counter()
        batches = list(epoch_batches(len(images), recipe, epoch))
        for step, indices in enumerate(batches):
            self._set_learning_rate((epoch + step / len(batches)) / recipe.epochs)
            generator = torch.Generator().manual_seed(mixed_seed(recipe.seed, epoch, step))
            mine = slice(fabric.global_rank, None, fabric.world_size)
            pixels, targets = images.batch(indices)
            pixels = self.views.pixels(pixels, indices, epoch, generator)
            inputs = self.views.inputs(pixels, generator)[mine]
            pixels, targets = pixels[mine], targets[mine]
            inputs, wanted = self.views.mixed(inputs, targets, generator)
            if recipe.acet_steps:
                generator.manual_seed(mixed_seed(recipe.seed, epoch, step, 1 + fabric.global_rank))
                noise = self._confident_noise(pixels, generator)
                both = torch.cat([inputs, noise])
                logits, on_noise = split_logits(self.model(both), len(targets))
                penalty = largest_log_probability(on_noise.cold_logits).mean()
                loss = self.objective.loss(logits, wanted, inputs) + penalty
            else:
                logits = self.model(inputs)
                loss = self.objective.loss(logits, wanted, inputs)
            fabric.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update_parameters(self.classifier)
            running.add(loss.detach(), logits, targets)
            progress.advance(len(indices))
        means = running.means()
        if not np.isfinite(means["loss"]):
            raise InputError(
                f"the loss is {means['loss']} in epoch {epoch + 1}: training diverged; "
                f"try a learning rate below {recipe.learning_rate}"
            )
        return means | {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": len(images) / (time.perf_counter() - began),
        }

    def _confident_noise(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        def confidence(noise: Tensor) -> Tensor:
            with self.fabric.autocast():
                logits = self.classifier(normalise(255 * noise, self.checkpoint))
            return largest_log_probability(logits.cold_logits)

        self.classifier.eval()  # the attack leaves the running statistics alone
        noise = most_confident(confidence, noise_images(pixels, generator), self.recipe.acet_steps)
        self.classifier.train()
        return normalise(255 * noise, self.checkpoint)

    def _set_learning_rate(self, progress: float) -> None:
        factor = self.recipe.learning_rate_factor(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def _sample(images: LabelledImages, checkpoint: Checkpoint) -> Tensor:
    """Images enough for the covariance of small patches, normalised."""
    chosen = images.pixels[evenly_spread(len(images), 5000)]
    return normalise(torch.from_numpy(chosen).permute(0, 3, 1, 2), checkpoint)


def start_run(recipe: Recipe, source: str, images: LabelledImages, output: Path) -> Checkpoint:
    """The checkpoint in ``output``, or one before the first epoch.

    Raises:
        InputError: the checkpoint there was made by another recipe or from other images.
    """
    start = _start(recipe, source, images)
    return _matching(Checkpoint.load(output), start) if (output / FILE_NAME).exists() else start


def _start(recipe: Recipe, source: str, images: LabelledImages) -> Checkpoint:
    training, _ = split(images, recipe)
    expected = recipe.preprocessing()
    if expected is None:
        mean, std = channel_statistics(training.pixels)
    else:
        mean, std = list(expected.mean), list(expected.std)
    height, width = images.pixels.shape[1:3]
    crop = 1.0 if expected is None else expected.crop
    return Checkpoint(
        recipe=recipe.model_dump(),
        command=printable(shlex.join(["isoserve", *sys.argv[1:]])),
        source=source,
        data_name=images.name,
        data_digest=images.digest(),
        training_images=len(training),
        classes=list(images.classes),
        input=InputSpec(height=height, width=width, crop=crop).model_dump(),
        mean=mean,
        std=std,
        history=[],
        weights={},
        optimizer={},
    )


def _matching(found: Checkpoint, wanted: Checkpoint) -> Checkpoint:
    if found.data_digest != wanted.data_digest:
        raise InputError(
            f"the run to resume was trained on other images ({found.data_name}, digest "
            f"{found.data_digest[:12]}, now {wanted.data_digest[:12]}); choose another --output"
        )
    recipe = found.parsed_recipe().model_dump()
    for key, value in wanted.recipe.items():
        if recipe[key] != value:
            raise InputError(
                f"the run to resume has {key} {recipe[key]}, not {value}; "
                "give the same settings or choose another --output"
            )
    return found
