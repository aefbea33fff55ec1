"""Files that could not be read, told on stderr: a set is less than its folder then."""

from __future__ import annotations

import click

from training.data import LabelledImages
from training.out_distributions import OutDistribution


def tell_skipped(*sets: LabelledImages | OutDistribution) -> None:
    """A line for each file or folder of the sets that was left out."""
    for images in sets:
        for line in images.skipped:
            click.echo(f"skipped {line}", err=True)
