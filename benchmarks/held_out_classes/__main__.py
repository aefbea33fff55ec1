"""Judge ways to train by classes that they never saw: no out-distribution is looked at.

    python -m benchmarks.held_out_classes IMAGES --output docs/results/training-choices

Each variant trains on IMAGES/train without two or so of its classes, other ones for each seed. The
images of those classes are near out-of-distribution; noise and torn images stand for far ones.
The three views and their combination are fitted as for a served model (statistics of training
images, scales of one half of the held-out images), and judged on the other half. Runs stay in
--runs and are not trained again; a variant may be taught by another's run of the same seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from benchmarks.held_out_classes.outliers import synthetic_outliers
from benchmarks.held_out_classes.report import page
from isoserve.models.boundaries import boundary_score, boundary_table
from isoserve.models.card import InputSpec
from isoserve.models.combination import VIEWS, linear_terms
from isoserve.models.scores import entropic_score
from isoserve.models.views import combined_score, density_score
from isoserve.training.batches import ResidentImages, normalise
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, load_images, split
from isoserve.training.evaluation.metrics import auroc, tnr_at_tpr95
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_model.feature_statistics import fit_statistics
from isoserve.training.onnx_model.fit_score import fit_scales
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import WAYS, fit

STATISTICS_IMAGES = 20_000
OUTLIERS = 500

VARIANTS: dict[str, Mapping[str, Any]] = {
    "fast": {"recipe": "fast"},
    "fast, sgd": {"recipe": "fast", "optimizer": "sgd", "learning_rate": 0.2},
    "fast, pixmix 0.5": {"recipe": "fast", "pixmix": 0.5},
    "fast, cutout 12": {"recipe": "fast", "cutout": 12},
    "fast, label smoothing 0.1": {"recipe": "fast", "label_smoothing": 0.1},
    "fast, normalised distances": {"recipe": "fast", "normalise_distances": True},
    "fast, softmax": {"recipe": "fast", "loss": "softmax"},
    "fast, 3 x epochs": {"recipe": "fast", "epochs": 3},
    "fine-tuned lite0 at 112": {
        "recipe": "finetune",
        "network": "efficientnet_lite0_32",
        "augmentation": "translate",
        "batch_size": 250,
        "epochs": 0.5,
    },
    "fast, taught by lite0": {"recipe": "fast", "teacher": "fine-tuned lite0 at 112"},
}
"""Settings of the recipe; ``epochs`` is a factor on --epochs, ``teacher`` another variant."""


@dataclass(frozen=True)
class Trained:
    """A network, and the images it was and was not trained on."""

    checkpoint: Checkpoint
    fabric: Fabric
    training: LabelledImages
    held_out: LabelledImages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", help="a folder with train/CLASS/*, or a named data set")
    parser.add_argument("--output", type=Path, required=True, help="for results.json")
    parser.add_argument("--runs", type=Path, default=Path("runs/held-out-classes"))
    parser.add_argument("--variants", default=";".join(VARIANTS), help="some of them, parted by ;")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    images = load_images(options.images, "train", InputSpec(height=32, width=32), options.data_root)
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for variant in options.variants.split(";"):
            row = judge(images, variant, seed, options)
            path = options.output / "results.jsonl"
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            (options.output / "README.md").write_text(page(rows))


def judge(
    images: LabelledImages, variant: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one variant on all classes but the seed's, and score what it never saw."""
    unseen = unseen_classes(len(images.classes), seed)
    known, unknown = part(images, unseen)
    recipe = recipe_of(variant, seed, options)
    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)
    fabric.launch()
    checkpoint = fit(fabric, recipe, options.images, known, options.runs / folder(variant, seed))
    training, held_out = split(known, recipe)
    trained = Trained(checkpoint, fabric, training, held_out)
    row = {
        "variant": variant,
        "seed": seed,
        "unseen": [images.classes[label] for label in unseen],
        "epochs": recipe.epochs,
        "images_per_second": round(checkpoint.history[-1]["images_per_second"]),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }
    return row | scored(trained, unknown, seed)


def unseen_classes(count: int, seed: int) -> list[int]:
    """A fifth of the classes, at least one; disjoint for the first seeds."""
    order = np.random.default_rng(2021).permutation(count)
    size = max(1, count // 5)
    return sorted(np.roll(order, -seed * size)[:size].tolist())


def part(images: LabelledImages, unseen: list[int]) -> tuple[LabelledImages, NDArray[np.uint8]]:
    """Images of the other classes, renumbered, and the pixels of the unseen ones."""
    out = np.isin(images.labels, unseen)
    known = images.take(np.flatnonzero(~out))
    kept = [label for label in range(len(images.classes)) if label not in unseen]
    classes = tuple(images.classes[label] for label in kept)
    labels = np.searchsorted(kept, known.labels)
    return LabelledImages(images.name, known.pixels, labels, classes), images.pixels[out]


def recipe_of(variant: str, seed: int, options: argparse.Namespace) -> Recipe:
    settings = dict(VARIANTS[variant])
    defaults = WAYS[settings["recipe"]].defaults
    settings["epochs"] = max(1, round(settings.get("epochs", 1) * options.epochs))
    if "teacher" in settings:
        settings["teacher"] = str(options.runs / folder(settings["teacher"], seed))
    return Recipe(**{**defaults, **settings, "seed": seed})


def folder(variant: str, seed: int) -> str:
    return f"{variant.replace(' ', '-').replace(',', '')}-{seed}"


def scored(trained: Trained, unknown: NDArray[np.uint8], seed: int) -> dict[str, Any]:
    """Accuracy, and each view's and the combination's AUROC and TNR@TPR95."""
    training = trained.training.take(
        evenly_spread(len(trained.training), min(STATISTICS_IMAGES, len(trained.training)))
    )
    statistics = fit_statistics(
        features_of(trained, training.pixels).cpu().numpy(), training.labels, len(training.classes)
    )
    density = statistics.tensors(trained.fabric.device)
    order = np.random.default_rng(seed).permutation(len(trained.held_out))
    half = len(order) // 2
    scaling, judged = (trained.held_out.take(order[:half]), trained.held_out.take(order[half:]))
    scales = fit_scales(views_of(trained, scaling.pixels, density)[0].numpy())
    factors, offsets = (torch.from_numpy(value).float() for value in linear_terms(*scales))

    def scores(pixels: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.float32]], torch.Tensor]:
        views, predicted = views_of(trained, pixels, density)
        named = {view: views[:, index].numpy() for index, view in enumerate(VIEWS)}
        return named | {"combined": combined_score(views, factors, offsets).numpy()}, predicted

    inside, predicted = scores(judged.pixels)
    near, _ = scores(unknown)
    far = {
        kind: scores(pixels)[0]
        for kind, pixels in synthetic_outliers(judged.pixels, OUTLIERS, seed).items()
    }
    row: dict[str, Any] = {"accuracy": round((predicted.numpy() == judged.labels).mean(), 4)}
    for name, own in inside.items():
        row[name] = {
            "near_auroc": round(auroc(own, near[name]), 4),
            "near_tnr": round(tnr_at_tpr95(own, near[name]), 4),
            "synthetic_auroc": {k: round(auroc(own, v[name]), 4) for k, v in far.items()},
            "synthetic_tnr": {k: round(tnr_at_tpr95(own, v[name]), 4) for k, v in far.items()},
        }
    return row


@torch.no_grad()
def features_of(trained: Trained, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """float32 [N, D]."""
    classifier = trained.checkpoint.classifier().to(trained.fabric.device)
    blank = np.zeros(len(pixels), np.int64)
    resident = ResidentImages(trained.fabric, LabelledImages("", pixels, blank, ("", "")))
    found = []
    for start in range(0, len(pixels), 512):
        batch, _ = resident.batch(np.arange(start, min(start + 512, len(pixels))))
        found.append(classifier.backbone(normalise(batch, trained.checkpoint)).float())
    return torch.cat(found)


@torch.no_grad()
def views_of(
    trained: Trained, pixels: NDArray[np.uint8], density: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Views [N, V] in their order, and predicted classes [N], on the CPU."""
    features = features_of(trained, pixels)
    head = trained.checkpoint.classifier().head.to(features.device)
    logits = head(features)
    predicted = logits.cold_logits.argmax(dim=1)
    table = boundary_table(head).to(features.device)
    views = (
        entropic_score(logits.score_logits),
        boundary_score(head, table, logits.cold_logits, predicted),
        density_score(features, **density),
    )
    return torch.stack(views, dim=1).cpu(), predicted.cpu()


if __name__ == "__main__":
    main()
