"""Features of an exported model, for this benchmark and :mod:`benchmarks.combined_score`.

    python -m benchmarks.density_directions.features MODEL.onnx IMAGES --output FOLDER/NAME.npz

Training images and held-out ones are those of the card; the outliers are made of the latter. With
--frozen, for a network whose weights never saw these classes, there is a file more for each two
choices of classes that are left out of everything but ``held_out``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.held_out_classes.__main__ import unseen_classes
from benchmarks.held_out_classes.outliers import synthetic_outliers
from isoserve.models.served_model import FEATURES
from isoserve.training.data import LabelledImages, load_images, split
from isoserve.training.hold_out import evenly_spread
from isoserve.training.onnx_graph import read_model, run_graph, with_output
from isoserve.training.recipe import Recipe

TRAINING_IMAGES, HELD_OUT_IMAGES, OUTLIERS = 10_000, 2_500, 300
UNSEEN_CHOICES = 2

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", help="what it was trained on")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--frozen", action="store_true")
    options = parser.parse_args()
    model, card = read_model(options.model)
    graph = with_output(model, FEATURES).SerializeToString()

    def features(pixels: NDArray[np.uint8]) -> Floats:
        return run_graph(graph, pixels, names=(FEATURES,))[FEATURES]

    images = load_images(options.images, "train", card.input, Path("data"))
    then = {name: card.recipe[name] for name in ("held_out", "alpha", "delta")}
    training, held_out = split(images, Recipe(seed=card.seed, **then))
    training, held_out = some(training, TRAINING_IMAGES), some(held_out, HELD_OUT_IMAGES)
    arrays = {
        "train": features(training.pixels),
        "train_labels": training.labels,
        "test": features(held_out.pixels),
        "test_labels": held_out.labels,
    }
    outliers = {
        f"outlier_{kind}": features(pixels)
        for kind, pixels in synthetic_outliers(held_out.pixels, OUTLIERS, 0).items()
    }
    np.savez(options.output, **arrays, **outliers)
    for choice in range(UNSEEN_CHOICES if options.frozen else 0):
        unseen = unseen_classes(len(images.classes), choice)
        path = options.output.with_stem(f"{options.output.stem}-unseen-{choice}")
        np.savez(path, **without(arrays, unseen), **outliers)


def some(images: LabelledImages, count: int) -> LabelledImages:
    return images.take(evenly_spread(len(images), count))


def without(arrays: dict[str, NDArray], unseen: list[int]) -> dict[str, NDArray]:
    """The arrays without some classes, and all of these as ``held_out``."""
    found: dict[str, NDArray] = {}
    parted = []
    for name in ("train", "test"):
        labels = arrays[f"{name}_labels"]
        out = np.isin(labels, unseen)
        parted.append(arrays[name][out])
        found[name] = arrays[name][~out]
        found[f"{name}_labels"] = np.unique(labels[~out], return_inverse=True)[1]
    return found | {"held_out": np.concatenate(parted)}


if __name__ == "__main__":
    main()
