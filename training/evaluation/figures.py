"""Figures as PNG files, drawn without a display; the same numbers give the same bytes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from isoserve.training.atomic import atomic_path

IN_COLOUR = "#444444"
"""In-distribution: a filled gray shape behind the others' lines."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
"""Okabe and Ito's palette, told apart by colour-blind readers, and two more."""

SCORE = "entropic score (nats; higher = more in-distribution)"

HISTOGRAM_BINS = 80
PEAKS_SHOWN = 3.0


def score_histogram(
    path: Path,
    in_scores: ArrayLike,
    out_scores: Mapping[str, ArrayLike],
    threshold: float | None = None,
) -> None:
    """Draw the density of in-distribution scores [N] against each named out-distribution's [M].

    A vertical line marks ``threshold``: scores below it are rejected.

    Raises:
        InputError: the file cannot be written.
    """
    figure = new_figure()
    axes = figure.subplots()
    draw_histogram(axes, in_scores, out_scores)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    axes.set_xlabel(SCORE)
    axes.set_ylabel("density")
    axes.legend(fontsize=8)
    save_figure(figure, path)


def draw_histogram(
    axes: Axes, in_values: ArrayLike, out_values: Mapping[str, ArrayLike], in_name: str = "test set"
) -> None:
    """Draw densities over one common set of bins: in-distribution filled, the others as lines.

    The axis ends at a few times the in-distribution's peak: noise images all score nearly the same
    and would flatten everything else.
    """
    # Pairs: an out-distribution may have the in-distribution's name.
    samples = [(name, np.asarray(v)) for name, v in ((in_name, in_values), *out_values.items())]
    everything = np.concatenate([values for _, values in samples])
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1.0, HISTOGRAM_BINS + 1).tolist()
    for index, (name, values) in enumerate(samples):
        label = legend_label(f"{name} ({values.size:,})")
        if index == 0:
            peak = np.max(
                axes.hist(values, edges, density=True, color=IN_COLOUR, alpha=0.45, label=label)[0]
            )
            continue
        axes.hist(
            values,
            edges,
            density=True,
            histtype="step",
            linewidth=1.3,
            color=COLOURS[(index - 1) % len(COLOURS)],
            label=label,
        )
    axes.set_ylim(0, min(axes.get_ylim()[1], PEAKS_SHOWN * float(peak)))


def legend_label(name: str) -> str:
    """A name for matplotlib: dollars begin no formula, and an underscore first hides nothing."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def new_figure(width: float = 7.0, height: float = 4.2) -> Figure:
    """Make an empty figure, sizes in inches, whose parts do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all; folders on the way to it are made.

    Raises:
        InputError: the file cannot be written.
    """
    # No creation software or date inside: the file depends on the numbers alone.
    with atomic_path(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(unfinished, format="png", dpi=110, metadata={"Software": None})
