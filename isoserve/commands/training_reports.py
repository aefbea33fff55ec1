"""What the training commands say of their images and of the model they wrote."""

from __future__ import annotations

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from isoserve.models.card import HeldOut, ModelCard
from isoserve.models.text import pluralize
from isoserve.training.data import LabelledImages
from isoserve.training.skipped import report_skipped


def announce(images: LabelledImages) -> None:
    """How many images of how many classes, and what was left out."""
    classes = pluralize(len(images.classes), "class", "classes")
    click.echo(f"{pluralize(len(images), 'image')} of {classes} from {images.name}")
    report_skipped(images)


def report(card: ModelCard, written: Path) -> None:
    """The figures of the card, and where it was written."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    for part in card.held_out:
        console.print(
            f"{part.split} images: n {part.n}  accuracy {part.accuracy:.4f}  ECE {part.ece:.4f}"
            f"  rejected at alpha {card.calibration.alpha}: {part.rejected:.4f}"
        )
        _report_classes(console, card, part)
    if card.evaluation:
        headings = ("out-distribution", "n", "TNR@TPR95", "AUROC", "DTACC", "rejected")
        table = Table(*headings, box=box.SIMPLE_HEAD if console.is_terminal else None)
        for row in card.evaluation:
            shares = (row.tnr_at_tpr95, row.auroc, row.dtacc, row.rejected)
            table.add_row(row.out_distribution, str(row.n), *(f"{share:.4f}" for share in shares))
        console.print(table)
    console.print(f"written: {written}")


MOST_CLASSES = 20
"""Of more than these only the worst are shown."""


def _report_classes(console: Console, card: ModelCard, part: HeldOut) -> None:
    named = [
        (result.accuracy, result, name)
        for name, result in zip(card.classes, part.classes, strict=bool(part.classes))
        if result.accuracy is not None
    ]
    if not named:
        return
    if len(named) > MOST_CLASSES:
        named = sorted(named, key=lambda entry: entry[0])[:MOST_CLASSES]
    table = Table(
        f"class ({part.split})",
        "n",
        "accuracy",
        "rejected",
        box=box.SIMPLE_HEAD if console.is_terminal else None,
    )
    for accuracy, result, name in named:
        table.add_row(name, str(result.n), f"{accuracy:.4f}", f"{result.rejected:.4f}")
    console.print(table)
