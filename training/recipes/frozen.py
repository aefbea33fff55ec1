"""``--recipe frozen``: a pretrained network stays as it is, and a head is trained on its features.

The network runs over each photograph once, as it is served (and, if wanted, in random views); what
is trained after that takes seconds. For few photographs, or a machine without an accelerator.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from isoserve.models.classifier import Classifier
from isoserve.models.errors import InputError
from isoserve.models.heads import Head, IsoMax2Head, IsoMaxHead
from isoserve.training.batches import epoch_batches, mixed_seed
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.class_weights import class_weights
from isoserve.training.data import LabelledImages, split
from isoserve.training.features import (
    BATCH,
    Extract,
    FeatureStore,
    PixelsToFeatures,
    extractor,
    network_digest,
)
from isoserve.training.metrics_file import write_metrics
from isoserve.training.photo_views import PhotoViews, held_larger
from isoserve.training.progress import Progress
from isoserve.training.recipe import Recipe
from isoserve.training.recipes.way import Way
from isoserve.training.running_means import RunningMeans
from isoserve.training.trainer import start_run

_LINE_EVERY = 10
"""Epochs of a second or less."""


def fit(
    fabric: Fabric, recipe: Recipe, source: str, images: LabelledImages, output: Path
) -> Checkpoint:
    """Compute the features, train the head; in one process, whatever the number of devices."""
    start = start_run(recipe, source, images, output)
    if start.epoch < recipe.epochs:
        if fabric.is_global_zero:
            _train(fabric, recipe, images, start, output)
        fabric.barrier()
        start = Checkpoint.load(output)
    return start


def _train(
    fabric: Fabric, recipe: Recipe, images: LabelledImages, start: Checkpoint, output: Path
) -> None:
    training, held_out = split(images, recipe)
    torch.manual_seed(recipe.seed)
    classifier = recipe.starting_classifier(len(images.classes)).eval()
    features = _Features(fabric, recipe, classifier, start, output / "features")
    views = features.of_training(training)
    shown = features.of_held_out(held_out)
    head, device = classifier.head.to(fabric.device), fabric.device
    targets = torch.from_numpy(training.labels).to(device)
    if recipe.prototype_start == "class-means":
        start_at_means(head, torch.from_numpy(views[0].astype(np.float32)), training.labels)
    weights = class_weights(recipe.class_weights, training.labels, len(images.classes))
    if weights is not None:
        weights = weights.to(device)
    optimizer = _optimizer(head, recipe)
    history = []
    with Progress(recipe, len(training), enabled=True) as progress:
        for epoch in range(recipe.epochs):
            means, began = RunningMeans(fabric), time.perf_counter()
            batches = list(epoch_batches(len(training), recipe, epoch))
            for step, indices in enumerate(batches):
                factor = recipe.learning_rate_factor((epoch + step / len(batches)) / recipe.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                chosen = np.random.default_rng(mixed_seed(recipe.seed, epoch, step)).integers(
                    len(views), size=len(indices)
                )
                batch = _stacked(views, chosen, indices).to(device)
                logits = head(batch)
                loss = head.loss(logits, targets[indices], recipe.label_smoothing, weights)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                means.add(loss.detach(), logits, targets[indices])
                progress.advance(len(indices))
            row = means.means() | {
                "learning_rate": optimizer.param_groups[0]["lr"],
                "images_per_second": len(training) / (time.perf_counter() - began),
            }
            if not np.isfinite(row["loss"]):
                raise InputError(
                    f"the loss is {row['loss']} in epoch {epoch + 1}: the weights of "
                    f"{recipe.network} are not finite numbers, or the learning rate "
                    f"{recipe.learning_rate} is too large"
                )
            row |= _evaluate(fabric, head, shown, held_out)
            history.append(row)
            fabric.log_dict(row, step=epoch + 1)
            if epoch % _LINE_EVERY == _LINE_EVERY - 1 or epoch == recipe.epochs - 1:
                progress.end_epoch(epoch, row)
    trained = {name: value.cpu() for name, value in classifier.state_dict().items()}
    replace(start, history=history, weights=trained).save(output)
    write_metrics(history, output)


class _Features:
    """Features of the recipe's network, as it is served and in views, kept in a folder."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        classifier: Classifier,
        start: Checkpoint,
        folder: Path,
    ) -> None:
        self.recipe, self.spec = recipe, start.input_spec()
        self.dimensions = classifier.head.num_features
        side = (self.spec.height, self.spec.width)
        network = PixelsToFeatures(classifier.backbone, start.mean, start.std)
        self.extract: Extract = extractor(fabric, network, side)
        key: dict[str, object] = {
            "images": start.data_digest,
            "network": network_digest(classifier.backbone),
            "seed": recipe.seed,
            "held_out": recipe.held_out,
            "flip": recipe.flip,
        }
        self.store = FeatureStore(folder, key)

    def of_training(self, images: LabelledImages) -> list[NDArray[np.float16]]:
        """The images as they are served, then in each random view; each [N, D]."""
        shape = (len(images), self.dimensions)
        found = [
            self.store.part("served", shape, lambda: self._served(images, "features, as served"))
        ]
        larger = held_larger(images, self.spec) if self.recipe.views > 1 else images.pixels
        for view in range(1, self.recipe.views):

            def batches(view: int = view) -> Iterator[NDArray[np.float32]]:
                return self._viewed(larger, view)

            found.append(self.store.part(f"view-{view}", shape, batches))
        return found

    def of_held_out(self, images: LabelledImages) -> NDArray[np.float16]:
        shape = (len(images), self.dimensions)
        return self.store.part(
            "held-out", shape, lambda: self._served(images, "features, held out")
        )

    def _served(self, images: LabelledImages, words: str) -> Iterator[NDArray[np.float32]]:
        for start in _tracked(len(images), words):
            yield self.extract(images.pixels[start : start + BATCH])

    def _viewed(self, pixels: NDArray[np.uint8], view: int) -> Iterator[NDArray[np.float32]]:
        size = (self.spec.height, self.spec.width)
        views = PhotoViews(size, strength="light", flip=self.recipe.flip)
        words = f"features, view {view} of {self.recipe.views - 1}"
        for start in _tracked(len(pixels), words):
            generator = torch.Generator().manual_seed(mixed_seed(self.recipe.seed, view, start))
            batch = torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2)
            seen = views.batch(batch, generator).permute(0, 2, 3, 1)
            yield self.extract(np.ascontiguousarray(seen.numpy()))


def _tracked(images: int, words: str) -> Iterable[int]:
    """The first image of each batch; a bar on a terminal, a line in a pipe."""
    console = Console()
    starts = range(0, images, BATCH)
    if console.is_terminal:
        return track(starts, words, console=console, transient=True)
    console.print(words, highlight=False)
    console.file.flush()
    return starts


def start_at_means(head: Head, features: Tensor, labels: NDArray[np.int64]) -> None:
    """Set each prototype of isomax and isomax2 to the mean of its class's features [N, D]."""
    if isinstance(head, (IsoMaxHead, IsoMax2Head)):
        with torch.no_grad():
            for label, prototype in enumerate(head.prototypes):
                prototype.copy_(features[torch.from_numpy(labels == label)].mean(dim=0))


def _optimizer(head: Head, recipe: Recipe) -> torch.optim.AdamW:
    own = [head.scales, head.tilts] if isinstance(head, IsoMax2Head) else []
    rest = [p for p in head.parameters() if all(p is not other for other in own)]
    rate = recipe.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": rest, "initial_lr": rate, "weight_decay": recipe.weight_decay},
        {
            "params": own,
            "initial_lr": rate * recipe.scale_learning_rate,
            "weight_decay": recipe.scale_weight_decay,
        },
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate)


def _stacked(
    views: list[NDArray[np.float16]], chosen: NDArray[np.int64], indices: NDArray[np.int64]
) -> Tensor:
    """Of each image the features of its chosen view, float32 [B, D]."""
    rows = [views[view][index] for view, index in zip(chosen, indices, strict=True)]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


@torch.no_grad()
def _evaluate(
    fabric: Fabric, head: Head, features: NDArray[np.float16], images: LabelledImages
) -> dict[str, float]:
    means = RunningMeans(fabric)
    targets = torch.from_numpy(images.labels).to(fabric.device)
    logits = head(torch.from_numpy(features.astype(np.float32)).to(fabric.device))
    means.add(head.loss(logits, targets), logits, targets)
    return {f"held_out_{key}": value for key, value in means.means().items()}


def _defaults() -> dict[str, object]:
    return {
        "network": "efficientnet_lite0",
        "weights": "default",
        "epochs": 40,
        "batch_size": 64,
        "learning_rate": 0.003,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "class_weights": "balanced",
    }


FROZEN = Way(fit, _defaults())
