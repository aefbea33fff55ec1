"""Small folders of real image files, and a network trained on one for a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.recipe import Recipe

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
