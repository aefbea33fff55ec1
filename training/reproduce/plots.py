"""The papers' figures from the grid's cells: [IsoMax2] 1-7 and [IsoMax] 1."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.special import log_softmax

from isoserve.training.evaluation.figures import (
    COLOURS,
    draw_histogram,
    legend_label,
    new_figure,
    save_figure,
)
from isoserve.training.reproduce.datasets import UNNATURAL
from isoserve.training.reproduce.grid import Cell
from isoserve.training.reproduce.plan import LOSS_NAMES
from isoserve.training.reproduce.results import Results

CAPTIONS: dict[str, str] = {
    "isomax2_figure1": "Loss and mean entropy of the OOD probabilities over the epochs "
    "([IsoMax2] figure 1, where SoftMax lowers both and IsoMax2 keeps the entropy high).",
    "isomax2_figure2": "Test accuracy, and AUROC averaged over natural out-distributions, against "
    "training images per class ([IsoMax2] figure 2).",
    "isomax2_figure3": "Score logits of the own class, of the other classes, and of "
    "out-distribution images ([IsoMax2] figure 3); in brackets how many logits.",
    "isomax2_figure4": "Entropy of the OOD probabilities ([IsoMax2] figure 4); in brackets how "
    "many images.",
    "isomax2_figure5": "Largest OOD probability ([IsoMax2] figure 5); in brackets how many images.",
    "isomax2_figure6": "Accuracy during training ([IsoMax2] figure 6); dashed: held-out images.",
    "isomax2_figure7": "Loss during training ([IsoMax2] figure 7); dashed: held-out images.",
    "isomax_figure1": "Loss and mean entropy for E_s = 1, 3 and 10, and the detection they give "
    "([IsoMax] figure 1).",
}


def draw_all(results: Results, cells: Sequence[Cell], folder: Path) -> list[str]:
    """Draw the figures of the study's network into ``folder``; returns their names.

    ``cells`` are those of the study's network and in-distribution; figures of trainings that are
    not among them are left out.
    """
    main = {
        cell.evaluation.training.recipe.loss: cell
        for cell in cells
        if cell.evaluation.training.purpose == "main" and cell.evaluation.training.recipe.seed == 0
    }
    if not {"softmax", "isomax2"} <= main.keys():
        return []  # every figure compares these
    pair = [main["softmax"], main["isomax2"]]
    scales = [cell for cell in cells if cell.evaluation.training.purpose == "entropic scale"]
    fewer = [cell for cell in cells if cell.evaluation.training.purpose == "fewer images"]
    _loss_and_entropy(pair, folder / "isomax2_figure1.png")
    if fewer:
        _fewer_images(results, pair, fewer, folder / "isomax2_figure2.png")
    _logits(pair, folder / "isomax2_figure3.png")
    _entropies(pair, folder / "isomax2_figure4.png")
    _largest_probabilities(pair, folder / "isomax2_figure5.png")
    curves = [main[loss] for loss in LOSS_NAMES if loss in main]
    _curves(curves, "accuracy", folder / "isomax2_figure6.png")
    _curves(curves, "loss", folder / "isomax2_figure7.png")
    left_out = set() if fewer else {"isomax2_figure2"}
    if scales and "isomax" in main:
        shown = [main["softmax"], *scales, main["isomax"]]
        _entropic_scales(results, shown, folder / "isomax_figure1.png")
    else:
        left_out.add("isomax_figure1")
    return [name for name in CAPTIONS if name not in left_out]


def _title(cell: Cell) -> str:
    recipe = cell.evaluation.training.recipe
    name = LOSS_NAMES[recipe.loss]
    return f"{name}, $E_s$ = {recipe.entropic_scale:g}" if recipe.loss == "isomax" else name


def _history(cell: Cell, key: str) -> list[float]:
    return [row[key] for row in cell.evaluation.checkpoint.history]


def _epochs(values: Sequence[float]) -> range:
    return range(1, len(values) + 1)


def _draw_loss_and_entropy(axes: Axes, cell: Cell) -> None:
    for key, colour in (("loss", COLOURS[0]), ("entropy", COLOURS[1])):
        values = _history(cell, key)
        axes.plot(_epochs(values), values, color=colour, label=f"mean {key}", marker=".")
    axes.set_title(_title(cell))
    axes.set_xlabel("epoch")
    axes.set_ylabel("nats")
    axes.set_ylim(0, 1.05 * max(_history(cell, "loss") + _history(cell, "entropy")))
    axes.legend(fontsize=8)


def _loss_and_entropy(pair: Sequence[Cell], path: Path) -> None:
    figure = new_figure(9.0, 3.6)
    for axes, cell in zip(figure.subplots(1, 2), pair, strict=True):
        _draw_loss_and_entropy(axes, cell)
    save_figure(figure, path)


def _entropic_scales(results: Results, cells: Sequence[Cell], path: Path) -> None:
    figure = new_figure(10.0, 7.0)
    grid = figure.subplots(2, 3).ravel()
    for axes, cell in zip(grid, cells, strict=False):
        _draw_loss_and_entropy(axes, cell)
    scales = [
        cell.evaluation.training.recipe.entropic_scale
        for cell in cells
        if cell.evaluation.training.recipe.loss == "isomax"
    ]
    for axes, metric in zip(grid[4:], ("TNR@TPR95", "AUROC"), strict=True):
        outs = _out_names(cells)
        for index, out in enumerate(outs):
            values = [
                _value(results, cells[0], out, metric, f"IsoMax/ES E_s={scale:g}")
                for scale in scales
            ]
            colour = COLOURS[index % len(COLOURS)]
            axes.plot(range(len(scales)), values, marker="o", label=legend_label(out), color=colour)
        axes.set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
        axes.set_xlabel("$E_s$")
        axes.set_ylabel(f"{metric} (%)")
        axes.legend(fontsize=7)
    save_figure(figure, path)


def _fewer_images(
    results: Results, pair: Sequence[Cell], fewer: Sequence[Cell], path: Path
) -> None:
    figure = new_figure(9.0, 3.6)
    accuracy_axes, auroc_axes = figure.subplots(1, 2)
    outs = [out for out in _out_names(pair) if out.lower() not in UNNATURAL]
    for cell, colour in zip(pair, COLOURS, strict=False):
        loss = cell.evaluation.training.recipe.loss
        name = LOSS_NAMES[loss]
        sizes = [
            other.evaluation.training.images_per_class
            for other in fewer
            if other.evaluation.training.recipe.loss == loss
        ]
        suffixes = [f" n={size}" for size in sizes] + [""]
        whole = len(cell.evaluation.images) / len(cell.evaluation.images.classes)
        places = [*sizes, whole]
        accuracies = [
            _value(results, cell, "", "test accuracy", f"{name}{suffix}") for suffix in suffixes
        ]
        aurocs = [
            statistics.fmean(
                _value(results, cell, out, "AUROC", f"{name}/ES{suffix}") for out in outs
            )
            for suffix in suffixes
        ]
        accuracy_axes.plot(places, accuracies, marker="o", color=colour, label=name)
        auroc_axes.plot(places, aurocs, marker="o", color=colour, label=f"{name}/ES")
    for axes, label in ((accuracy_axes, "test accuracy (%)"), (auroc_axes, "mean AUROC (%)")):
        axes.set_xlabel("training images per class")
        axes.set_ylabel(label)
        axes.legend(fontsize=8)
    save_figure(figure, path)


def _logits(pair: Sequence[Cell], path: Path) -> None:
    figure = new_figure(10.0, 3.8)
    for axes, cell in zip(figure.subplots(1, 2), pair, strict=True):
        inside = cell.evaluation.logits(cell.test)["score"]
        own = np.zeros(inside.shape, dtype=bool)
        own[np.arange(len(inside)), list(cell.test_labels)] = True
        outs = {"other classes": inside[~own]}
        outs |= {out.name: cell.evaluation.logits(out)["score"].ravel() for out in cell.out_sets}
        draw_histogram(axes, inside[own], outs, in_name="own class")
        axes.set_title(_title(cell))
        axes.set_xlabel("minus the distance" if cell is pair[1] else "logit")
        axes.set_ylabel("density")
        axes.legend(fontsize=6)
    save_figure(figure, path)


def _entropies(pair: Sequence[Cell], path: Path) -> None:
    _histograms(pair, _entropy, "entropy (nats)", path)


def _largest_probabilities(pair: Sequence[Cell], path: Path) -> None:
    _histograms(pair, _largest_probability, "largest probability", path)


def _entropy(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    logs = log_softmax(logits.astype(np.float64), axis=1)
    entropy: NDArray[np.float64] = -(np.exp(logs) * logs).sum(axis=1)
    return entropy


def _largest_probability(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    logs = log_softmax(logits.astype(np.float64), axis=1)
    largest: NDArray[np.float64] = np.exp(logs.max(axis=1))
    return largest


def _histograms(
    pair: Sequence[Cell],
    measure: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    label: str,
    path: Path,
) -> None:
    figure = new_figure(10.0, 3.8)
    for axes, cell in zip(figure.subplots(1, 2), pair, strict=True):
        outs = {out.name: measure(cell.evaluation.logits(out)["score"]) for out in cell.out_sets}
        draw_histogram(axes, measure(cell.evaluation.logits(cell.test)["score"]), outs)
        axes.set_title(_title(cell))
        axes.set_xlabel(label)
        axes.set_ylabel("density")
        axes.legend(fontsize=6)
    save_figure(figure, path)


def _curves(cells: Sequence[Cell], key: str, path: Path) -> None:
    figure = new_figure()
    axes = figure.subplots()
    for cell, colour in zip(cells, COLOURS, strict=False):
        values, held_out = _history(cell, key), _history(cell, f"held_out_{key}")
        axes.plot(_epochs(values), values, color=colour, label=_title(cell))
        axes.plot(_epochs(held_out), held_out, color=colour, linestyle="--")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{key}{' (nats)' if key == 'loss' else ''}")
    axes.legend(fontsize=8)
    save_figure(figure, path)


def _out_names(cells: Sequence[Cell]) -> list[str]:
    return [out.name for out in cells[0].out_sets]


def _value(results: Results, cell: Cell, out: str, metric: str, method: str) -> float:
    recipe = cell.evaluation.training.recipe
    wanted = (recipe.network, cell.evaluation.training.in_data, out, metric, method, recipe.seed)
    return next(
        record.value
        for record in results.records
        if (
            record.network,
            record.in_data,
            record.out_data,
            record.metric,
            record.method,
            record.seed,
        )
        == wanted
    )
