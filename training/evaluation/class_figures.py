"""The confusion matrix, and the images a model is worst at, drawn with their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from isoserve.training.evaluation.class_results import WorstImage

COLUMNS = 6
MOST_NAMED = 30
"""Classes whose counts are written into the matrix."""


def draw_confusion(axes: Axes, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Draw a matrix [C, C], rows the true class, shaded by the share of the row."""
    counts = np.asarray(confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="taken for", ylabel="true class")
    if len(classes) > MOST_NAMED:
        return
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
    axes.set_yticks(range(len(classes)), classes, fontsize=7)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{int(counts[row, column])}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


def draw_worst(
    figure: Figure | SubFigure,
    worst: Sequence[WorstImage],
    pixels: NDArray[np.uint8],
    classes: Sequence[str],
) -> None:
    """Draw images of ``pixels`` [N, H, W, 3], each with its class and what it was taken for."""
    rows = -(-len(worst) // COLUMNS)
    if isinstance(figure, Figure):
        figure.set_size_inches(1.5 * COLUMNS, 1.9 * max(rows, 1))
    for place, image in enumerate(worst):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        axes.imshow(pixels[image.row])
        axes.set_axis_off()
        title = (
            f"{_short(classes[image.label])}\nfor {_short(classes[image.predicted])} "
            f"{image.probability:.2f}"
        )
        axes.set_title(title, fontsize=6)
    if not worst:
        figure.text(0.5, 0.5, "no image was classified wrongly", ha="center")


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
