"""A classifier trained with a plain softmax layer, its images and its ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

CLASSES = ("blue", "green", "red")
COLOURS = np.array([(60, 60, 170), (60, 170, 60), (170, 60, 60)])
MEAN, STD = (0.4, 0.35, 0.3), (0.2, 0.25, 0.3)
STATED = {"mean": MEAN, "std": STD}
SIZE = 16

Pixels = NDArray[np.uint8]


def draw(n: int, seed: int) -> tuple[Pixels, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    shade = generator.normal(0, 25, (n, 1, 1, 3))
    noise = generator.normal(0, 40, (n, SIZE, SIZE, 3))
    return np.clip(COLOURS[labels][:, None, None] + shade + noise, 0, 255).astype(np.uint8), labels


def prepared(pixels: Pixels) -> NDArray[np.float32]:
    """As the classifier was trained: [N, 3, H, W]."""
    found = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return found.transpose(0, 3, 1, 2)


class Net(nn.Module):
    """torchvision's shape: a body, average pool, dropout and ``fc``."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(12, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.body(images))
        return self.fc(self.drop(features.view(features.shape[0], -1)))


Variant = Callable[[onnx.ModelProto], None]


def variant(logits: Path, path: Path, change: Variant) -> Path:
    model = onnx.load_model(logits)
    change(model)
    onnx.save_model(model, path)
    return path
