"""Report the files that could not be read: a set is smaller than its folder then."""

from __future__ import annotations

from collections.abc import Callable

import click

from isoserve.models.image_files.folder import describe_left_out
from isoserve.training.data import LabelledImages
from isoserve.training.out_distributions import OutDistribution


def _on_stderr(line: str) -> None:
    click.echo(line, err=True)


def report_skipped(
    *sets: LabelledImages | OutDistribution, say: Callable[[str], None] = _on_stderr
) -> None:
    """A line for each file or folder that could not be read, and one for those of other endings."""
    for images in sets:
        for line in images.skipped:
            say(f"skipped {line}")
        if line := describe_left_out(images.left_out):
            say(line)
