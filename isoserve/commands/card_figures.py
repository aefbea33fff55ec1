"""The model card's figures as SVG; needs matplotlib, of the ``train`` extra."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from isoserve.models.card import ModelCard
from isoserve.training.evaluation.class_figures import draw_confusion, draw_worst
from isoserve.training.evaluation.evaluate import Evaluation
from isoserve.training.evaluation.figures import (
    COLOURS,
    IN_COLOUR,
    SCORE,
    draw_histogram,
    new_figure,
)
from isoserve.training.evaluation.metrics import ECE_BINS

P_VALUE_BINS = 20
TALLEST_ROWS = 30
"""A bar chart of more classes than this grows no taller and names only some of them."""


@dataclass(frozen=True)
class CardFigure:
    """A drawing, and in words what is to be seen in it."""

    title: str
    words: str
    svg: bytes


def card_figures(card: ModelCard) -> list[CardFigure]:
    """What can be drawn from the card alone."""
    return [_calibration_scores(card), _class_counts(card)]


def evaluation_figures(card: ModelCard, evaluation: Evaluation) -> list[CardFigure]:
    """What can be drawn from the outputs on test images and on out-distributions."""
    figures = [_score_histograms(card, evaluation)]
    if evaluation.out_scores:
        figures.append(_roc(evaluation))
    return [
        *figures,
        _p_values(evaluation),
        _class_rejection(card, evaluation),
        _reliability(evaluation),
        *_confusion(card, evaluation),
        _worst(card, evaluation),
    ]


def _calibration_scores(card: ModelCard) -> CardFigure:
    quantiles = np.asarray(card.calibration.score_quantiles)
    # Between two percentiles lies 1 % of the images; equal percentiles are one spike.
    edges = np.linspace(quantiles[0], max(quantiles[-1], quantiles[0] + 1e-6), 41)
    share = np.interp(edges, quantiles, np.linspace(0, 1, len(quantiles)))
    density = np.diff(share) / np.diff(edges)

    def draw(axes: Axes) -> None:
        axes.stairs(density, edges.tolist(), fill=True, color=IN_COLOUR, alpha=0.45)
        _threshold(axes, card)
        axes.set(xlabel=SCORE, ylabel="density")

    return _figure(
        "Scores at calibration",
        f"Density of the entropic score of the {card.calibration.n:,} calibration images, drawn "
        f"from its percentiles. Scores below {card.calibration.threshold:.3f} are rejected.",
        draw,
    )


def _class_counts(card: ModelCard) -> CardFigure:
    counts = card.calibration.class_counts

    def draw(axes: Axes) -> None:
        _bars(axes, card.classes, {"calibration images": np.asarray(counts, dtype=np.float64)})
        axes.set(xlabel="calibration images predicted as the class")

    return _figure(
        "Calibration by class",
        "How many calibration images stand behind each class's p-value; from "
        f"{min(counts):,} to {max(counts):,}.",
        draw,
        rows=len(card.classes),
    )


def _score_histograms(card: ModelCard, evaluation: Evaluation) -> CardFigure:
    def draw(axes: Axes) -> None:
        draw_histogram(axes, evaluation.inside["entropic_score"], evaluation.out_scores)
        _threshold(axes, card)
        axes.set(xlabel=SCORE, ylabel="density")

    return _figure(
        "Scores of test images and of anything else",
        "The filled shape is the model's own kind of images; what lies left of the threshold is "
        "rejected.",
        draw,
    )


def _roc(evaluation: Evaluation) -> CardFigure:
    inside = np.sort(evaluation.inside["entropic_score"])
    thresholds = np.concatenate([inside, [np.inf]])

    def accepted(scores: NDArray[np.float32]) -> NDArray[np.float64]:
        return 1.0 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)

    def draw(axes: Axes) -> None:
        for place, (name, scores) in enumerate(evaluation.out_scores.items()):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(accepted(scores), accepted(inside), color=colour, label=name)
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":", linewidth=1)
        axes.axhline(0.95, color="black", linestyle="--", linewidth=1)
        axes.set(
            xlabel="share of other images accepted",
            ylabel="share of test images accepted",
            xlim=(0, 1),
            ylim=(0, 1.01),
        )
        axes.legend(fontsize=8, loc="lower right")

    return _figure(
        "Telling them apart (ROC)",
        "Each point is one threshold on the entropic score; the dashed line is the papers' TPR 95.",
        draw,
    )


def _p_values(evaluation: Evaluation) -> CardFigure:
    values = evaluation.inside["p_value"]
    counts, edges = np.histogram(values, bins=P_VALUE_BINS, range=(0, 1))
    expected = len(values) / P_VALUE_BINS
    # 99 % of bins lie within this of the expectation, by the normal approximation.
    band = 2.576 * np.sqrt(expected * (1 - 1 / P_VALUE_BINS)) / expected

    def draw(axes: Axes) -> None:
        axes.axhspan(
            max(1 - band, 0), 1 + band, color=COLOURS[0], alpha=0.15, label="99 % of uniform bins"
        )
        axes.stairs(counts / expected, edges.tolist(), fill=True, color=IN_COLOUR, alpha=0.45)
        axes.axhline(1, color="black", linewidth=1)
        axes.set(xlabel="p-value", ylabel="share, relative to uniform", xlim=(0, 1))
        axes.legend(fontsize=8)

    return _figure(
        "p-values of the test images",
        "Uniform where the test images are like the calibration images; a hill at zero is drift.",
        draw,
    )


def _class_rejection(card: ModelCard, evaluation: Evaluation) -> CardFigure:
    alpha = card.calibration.alpha
    members = [evaluation.images.labels == label for label in range(len(card.classes))]

    def rejected(name: str) -> NDArray[np.float64]:
        small = evaluation.inside[name] <= np.float32(alpha)
        return np.array([small[each].mean() if each.any() else 0.0 for each in members])

    marginal, by_class = rejected("p_value"), rejected("class_p_value")

    def draw(axes: Axes) -> None:
        _bars(axes, card.classes, {"by p_value": marginal, "by class_p_value": by_class})
        axes.axvline(alpha, color="black", linestyle="--", linewidth=1, label=f"alpha {alpha:g}")
        axes.set(xlabel="share of the class's test images that is rejected")
        axes.legend(fontsize=8)

    return _figure(
        "Rejection by class",
        f"At alpha {alpha:g}: from {marginal.min():.3f} to {marginal.max():.3f} of a class by "
        f"p_value, from {by_class.min():.3f} to {by_class.max():.3f} by class_p_value.",
        draw,
        rows=len(card.classes),
    )


def _reliability(evaluation: Evaluation) -> CardFigure:
    probabilities = evaluation.inside["probabilities"]
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == evaluation.images.labels
    edges = np.linspace(0, 1, ECE_BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence, side="left")
    n = np.bincount(place, minlength=ECE_BINS)
    hit = np.bincount(place, weights=correct, minlength=ECE_BINS)
    share = np.divide(hit, n, out=np.full(ECE_BINS, np.nan), where=n > 0)
    mean = np.bincount(place, weights=confidence, minlength=ECE_BINS)
    mean = np.divide(mean, n, out=np.full(ECE_BINS, np.nan), where=n > 0)

    def draw(axes: Axes) -> None:
        axes.stairs(share, edges.tolist(), fill=True, color=COLOURS[0], alpha=0.3)
        axes.scatter(mean, share, 200 * n / n.sum() + 4, color=COLOURS[0], zorder=3)
        axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
        axes.set(
            xlabel="probability of the predicted class",
            ylabel="share that is right",
            xlim=(0, 1),
            ylim=(0, 1),
        )

    return _figure(
        "Reliability",
        f"On the line, a probability is what it says (ECE {evaluation.test.ece:.4f}); a dot's "
        "area is its number of images.",
        draw,
    )


def _threshold(axes: Axes, card: ModelCard) -> None:
    label = f"threshold at alpha {card.calibration.alpha:g}"
    axes.axvline(
        card.calibration.threshold, color="black", linestyle="--", linewidth=1, label=label
    )
    axes.legend(fontsize=8)


def _bars(axes: Axes, names: list[str], groups: Mapping[str, NDArray[np.float64]]) -> None:
    """Horizontal bars, the first name on top, a colour a group."""
    places = np.arange(len(names))
    height = 0.8 / len(groups)
    for index, (label, values) in enumerate(groups.items()):
        offsets = places + (index - (len(groups) - 1) / 2) * height
        axes.barh(offsets, values, height, color=COLOURS[index], label=label)
    shown = places[:: 1 + (len(names) - 1) // TALLEST_ROWS]
    axes.set_yticks(shown, [names[place] for place in shown])
    axes.invert_yaxis()


def _confusion(card: ModelCard, evaluation: Evaluation) -> list[CardFigure]:
    if not evaluation.test.confusion:
        return []

    def draw(axes: Axes) -> None:
        draw_confusion(axes, evaluation.test.confusion, card.classes)

    words = "Test images by their class (rows) and the class they were taken for (columns)."
    return [_figure("Confusion matrix", words, draw, rows=len(card.classes))]


def _worst(card: ModelCard, evaluation: Evaluation) -> CardFigure:
    worst = evaluation.worst()

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        draw_worst(axes.figure, worst, evaluation.images.pixels, card.classes)

    words = (
        "Above each test image its class, what it was taken for, and with which probability; the "
        "most confident mistakes first."
    )
    return _figure("The worst images", words if worst else "No image was taken for another.", draw)


def _figure(title: str, words: str, draw: Callable[[Axes], None], rows: int = 0) -> CardFigure:
    # The same numbers give the same bytes: no date, and identifiers of a fixed salt.
    # Words stay words, so that the reader's own fonts draw what matplotlib's has no glyph for.
    with (
        mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "text.parse_math": False}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = new_figure(height=max(4.2, 0.28 * min(rows, TALLEST_ROWS)))
        draw(figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return CardFigure(title, words, file.getvalue())
