"""A model card as lines and tables of words, for a terminal and for a page alike."""

from __future__ import annotations

from dataclasses import dataclass

from isoserve.models.card import HeldOut, ModelCard
from isoserve.models.combination import VIEWS

Row = tuple[str, ...]


@dataclass(frozen=True)
class CardTable:
    """The first column names, the others are numbers."""

    title: str
    headings: Row
    rows: list[Row]


def fact_lines(card: ModelCard) -> list[tuple[str, str]]:
    """What the card says in single values, as (name, words)."""
    calibration, data = card.calibration, card.data
    lines = [
        (
            "network",
            f"{card.network}, {card.precision}, {card.loss} head, {card.parameters:,} parameters",
        ),
        ("input", f"{card.input.width} x {card.input.height} RGB, {card.input.resize}"),
        ("classes", f"{len(card.classes)}: {', '.join(card.classes)}"),
        ("trained on", f"{data.name}, {data.training_images:,} images (seed {card.seed})"),
        ("data digest", data.digest),
        ("calibrated on", f"{calibration.n:,} images the weights have not seen"),
        ("alpha", f"{calibration.alpha:g}: about this share of in-distribution images is rejected"),
        (
            "guaranteed alpha",
            f"{calibration.guaranteed_alpha:.4g}: reject at this p-value instead to keep the "
            f"share within {calibration.alpha:g} with confidence {1 - calibration.delta:g}",
        ),
        ("score", _score_words(card)),
        (
            "threshold",
            f"{calibration.threshold:.4f} of the {card.score} score, at alpha",
        ),
        ("temperature", f"{calibration.temperature:.4f}, of the class probabilities"),
        ("recipe", ", ".join(f"{name} {value}" for name, value in card.recipe.items())),
        ("made by", card.command),
        ("made with", ", ".join(f"{name} {value}" for name, value in card.versions.items())),
        ("made on", f"{card.created:%Y-%m-%d %H:%M %Z}"),
        ("licence", card.licence),
        ("note", data.note),
    ]
    return [(name, value) for name, value in lines if value]


def _score_words(card: ModelCard) -> str:
    """Which score decides, and what it was fitted on."""
    if card.combination is None or card.statistics is None:
        return "entropic: how undecided the network is between the classes"
    share = f"{card.statistics.shrinkage:.1%}"
    return (
        f"combined of {', '.join(VIEWS)}; scales of {card.combination.n:,} "
        f"{card.combination.fitted_on} images, covariance of {card.statistics.n:,} images "
        f"(shrunk by {share})"
    )


def card_tables(card: ModelCard) -> list[CardTable]:
    """Accuracy, out-distributions, calibration images per class; lacking ones left out."""
    tables = []
    if card.held_out:
        accuracies = [
            (part.split, f"{part.n:,}", *_shares(part.accuracy, part.ece, part.nll, part.rejected))
            for part in card.held_out
        ]
        headings: Row = ("images", "n", "accuracy", "ECE", "NLL", "rejected")
        tables.append(CardTable("Images of the model's classes", headings, accuracies))
    if card.combination is not None:
        scales = [(view, getattr(card.combination, view)) for view in VIEWS]
        views: list[Row] = [
            (view, f"{scale.centre:.4f}", f"{scale.spread:.4f}") for view, scale in scales
        ]
        tables.append(CardTable("Views of the score", ("view", "centre", "spread"), views))
    tables += [_class_table(card, part) for part in card.held_out if part.classes]
    if card.evaluation:
        results = [
            (
                part.out_distribution,
                f"{part.n:,}",
                *_shares(part.auroc, part.tnr_at_tpr95, part.dtacc, part.rejected),
            )
            for part in card.evaluation
        ]
        headings = ("images", "n", "AUROC", "TNR@TPR95", "DTACC", "rejected")
        tables.append(CardTable("Images of anything else", headings, results))
    counts = zip(card.classes, card.calibration.class_counts, strict=True)
    headings = ("class", "calibration images predicted so")
    rows: list[Row] = [(name, f"{count:,}") for name, count in counts]
    tables.append(CardTable("Calibration by class", headings, rows))
    return tables


def _class_table(card: ModelCard, part: HeldOut) -> CardTable:
    rows: list[Row] = []
    for index, (name, result) in enumerate(zip(card.classes, part.classes, strict=True)):
        shares = (
            "-" if share is None else f"{share:.4f}" for share in (result.accuracy, result.rejected)
        )
        rows.append((name, f"{result.n:,}", *shares, _confused_with(card, part, index)))
    headings = ("class", "n", "accuracy", "rejected", "most often taken for")
    return CardTable(f"{part.split.capitalize()} images by class", headings, rows)


def _confused_with(card: ModelCard, part: HeldOut, index: int) -> str:
    if not part.confusion:
        return ""
    counts = [0 if other == index else n for other, n in enumerate(part.confusion[index])]
    most = max(counts)
    return f"{card.classes[counts.index(most)]} ({most:,})" if most else ""


def _shares(*values: float) -> Row:
    return tuple(f"{value:.4f}" for value in values)
