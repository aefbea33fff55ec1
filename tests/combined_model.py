"""A network of seconds, as files of schemas 1 and 2, and the images behind both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from isoserve.models.card import DataSummary, InputSpec
from isoserve.models.classifier import Classifier
from isoserve.models.heads import HEADS, Logits
from isoserve.training.data import LabelledImages, load_images, split
from isoserve.training.onnx_model.export import Description, ExportImages, export_network
from isoserve.training.recipe import Recipe

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}
SIDE = 16
SPEC = InputSpec(height=SIDE, width=SIDE)
MEAN, STD = [0.4, 0.4, 0.4], [0.3, 0.3, 0.3]
RECIPE = Recipe(held_out=0.5, seed=3)


class Backbone(nn.Module):
    """[N, 3, H, W] -> [N, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


class Former(nn.Module):
    """The same classifier as one whose features are not known: it is exported as schema 1."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.backbone, self.head = classifier.backbone, classifier.head

    def forward(self, images: Tensor) -> Logits:
        logits: Logits = self.head(self.backbone(images))
        return logits


def colour_images(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 [n, 16, 16, 3] and labels [n]: noisy images of three colours, in turn."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % len(COLOURS)
    colours = np.array(list(COLOURS.values()))[labels][:, None, None]
    shades = generator.uniform(0.6, 1.2, (n, 1, 1, 1))
    noisy = colours * shades + generator.normal(0, 40, (n, SIDE, SIDE, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), labels


def write_colour_folder(root: Path, n: int = 240, seed: int = 1) -> Path:
    """``root``/CLASS/*.png, lossless and at the model's size."""
    pixels, labels = colour_images(n, seed)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = root / list(COLOURS)[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return root


def trained_classifier(loss: str = "isomax2") -> Classifier:
    """Thirty steps, on the CPU."""
    torch.manual_seed(0)
    network = Classifier(Backbone(), HEADS[loss](8, len(COLOURS)))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(30):
        pixels, labels = colour_images(48, seed=1000 + step)
        batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.4) / 0.3
        value = network.head.loss(network(batch), torch.from_numpy(labels))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return network.eval()


def exported(network: nn.Module, folder: Path, name: str) -> onnx.ModelProto:
    """The file of a classifier (schema 2, combined) or of a :class:`Former` (schema 1).

    The images are split as ``isoserve train`` does it, and the card says how.
    """
    images = load_images(str(folder), "train", SPEC, Path("unused"))
    training, held_out = split(images, RECIPE)
    combined = isinstance(network, Classifier)
    return export_network(
        network,
        ExportImages(held_out, training if combined else None),
        _description(images, len(training), name),
    )


def _description(images: LabelledImages, training_images: int, name: str) -> Description:
    return Description(
        name=name,
        classes=list(COLOURS),
        input=SPEC,
        mean=MEAN,
        std=STD,
        network="tiny",
        data=DataSummary(
            name=images.name,
            digest=images.digest(),
            training_images=training_images,
            calibration_images=1,
        ),
        seed=RECIPE.seed,
        recipe=RECIPE.model_dump(exclude={"network", "loss", "seed"}),
    )
