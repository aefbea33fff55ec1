"""Small folders of real image files, and a network trained on one for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from isoserve.cli import cli
from isoserve.training.recipe import Recipe

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> MakeFolder:
    """``make(train=60, test=20)``: noisy images of three colours, of mixed sizes."""

    def make(**images_a_class: int) -> Path:
        root = tmp_path_factory.mktemp("colours")
        generator = np.random.default_rng(0)
        for split, count in images_a_class.items():
            for name, colour in COLOURS.items():
                folder = root / split / name
                folder.mkdir(parents=True)
                for index in range(count):
                    height, width = generator.integers(16, 40, 2)
                    noise = generator.normal(0, 60, (height, width, 3))
                    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{index:03d}.png")
        return root

    return make


@pytest.fixture(scope="session")
def colours(image_folder: MakeFolder) -> Path:
    return image_folder(train=60, test=30)


QUICK = Recipe(
    network="densenet22_32",
    image_size=16,
    epochs=2,
    batch_size=32,
    learning_rate=0.05,
    held_out=0.35,
    seed=3,
)
"""Seconds on one core."""


@pytest.fixture(scope="session")
def quick() -> Recipe:
    return QUICK


@pytest.fixture(scope="session")
def run(colours: Path, quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``isoserve train`` wrote; shared, so tests must not change it."""
    output = tmp_path_factory.mktemp("runs") / "colours"
    flags = []
    for name, value in quick.model_dump(exclude_defaults=True).items():
        flags += ["--" + name.replace("_", "-"), str(value)]
    licence = ["--licence", "CC0-1.0", "--note", "drawn"]
    words = ["train", colours, "--output", output, *flags, *licence]
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "180 images of 3 classes" in result.output
    assert "epoch 2/2  loss" in result.output
    return output
