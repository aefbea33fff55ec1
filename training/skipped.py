"""Report the files that could not be read: a set is smaller than its folder then."""

from __future__ import annotations

from collections.abc import Callable

import click

from isoserve.training.data import LabelledImages
from isoserve.training.out_distributions import OutDistribution


def _on_stderr(line: str) -> None:
    click.echo(line, err=True)


def report_skipped(
    *sets: LabelledImages | OutDistribution, say: Callable[[str], None] = _on_stderr
) -> None:
    """A line for each file or folder of the sets that was left out."""
    for images in sets:
        for line in images.skipped:
            say(f"skipped {line}")
