"""Images for the smoke scale, made on the spot: scikit-learn's digits, and others."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from isoserve.models.card import InputSpec
from isoserve.models.preprocessing import to_pixels
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import hold_out
from isoserve.training.named_sets import Split
from isoserve.training.out_distributions import OutDistribution

TEST_IMAGES = 450
MADE_IMAGES = 300

_SIDE = 8
"""Of the digits; everything is made at this size and enlarged by the one path."""


def digits(split: Split, spec: InputSpec) -> LabelledImages:
    """1,797 handwritten digits, 8x8 and gray; a fixed stratified quarter is the test split."""
    gray, labels = _digits()
    train, test = hold_out(labels, TEST_IMAGES, seed=0)
    chosen = test if split == "test" else train
    pixels = _enlarge(gray[chosen], spec)
    return LabelledImages("digits", pixels, labels[chosen], tuple("0123456789"))


def made_out_distribution(name: str, spec: InputSpec) -> OutDistribution:
    """One of :data:`MADE`, gray and 8x8 as the digits are, the same images each time."""
    draw, note = MADE[name]
    generator = np.random.default_rng([*name.encode()])
    gray = np.stack([draw(generator) for _ in range(MADE_IMAGES)])
    return OutDistribution(name, _enlarge(gray, spec), f"{note}; 8x8 gray, enlarged as the digits")


def _enlarge(gray: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    return np.stack([to_pixels(Image.fromarray(image), spec) for image in gray])


def _jigsaw(generator: np.random.Generator) -> NDArray[np.uint8]:
    images, _ = _digits()
    image: NDArray[np.uint8] = images[generator.integers(len(images))]
    half = _SIDE // 2
    quarters = [image[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    # A rotation of the four moves every one of them.
    turn = int(generator.integers(1, 4))
    a, b, c, d = quarters[turn:] + quarters[:turn]
    moved: NDArray[np.uint8] = np.vstack([np.hstack([a, b]), np.hstack([c, d])])
    return moved


def _strokes(generator: np.random.Generator) -> NDArray[np.uint8]:
    canvas = Image.new("L", (4 * _SIDE, 4 * _SIDE))
    pen = ImageDraw.Draw(canvas)
    for _ in range(generator.integers(2, 5)):
        ends = generator.integers(0, 4 * _SIDE, 4).tolist()
        pen.line(ends, fill=255, width=4)
    return np.asarray(canvas.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def _gratings(generator: np.random.Generator) -> NDArray[np.uint8]:
    angle, phase = generator.uniform(0, np.pi), generator.uniform(0, 2 * np.pi)
    waves = generator.uniform(1.0, 3.5)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    across = x * np.cos(angle) + y * np.sin(angle)
    wave = 127.5 + 127.5 * np.sin(2 * np.pi * waves * across + phase)
    gray: NDArray[np.uint8] = np.round(wave).astype(np.uint8)
    return gray


@functools.cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    values, labels = load_digits(return_X_y=True)
    gray: NDArray[np.uint8] = np.round(values.reshape(-1, _SIDE, _SIDE) * 255 / 16).astype(np.uint8)
    return gray, labels.astype(np.int64)


MADE: dict[str, tuple[Callable[[np.random.Generator], NDArray[np.uint8]], str]] = {
    "jigsaw": (_jigsaw, "digits with their quarters moved round"),
    "strokes": (_strokes, "two to four random straight strokes"),
    "gratings": (_gratings, "sine waves of random direction, length and phase"),
}
