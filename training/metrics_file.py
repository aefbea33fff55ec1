"""Training curves as a table that any program reads."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from isoserve.training.atomic import atomic_path

FILE_NAME = "metrics.csv"


def write_metrics(history: list[dict[str, float]], folder: Path) -> None:
    """Replace ``folder/metrics.csv``: a line of names, then one for each epoch, counted from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(history[-1])
    writer.writerow(["epoch", *names])
    for epoch, row in enumerate(history, start=1):
        writer.writerow([epoch, *(format(row[name], ".7g") for name in names)])
    with atomic_path(folder / FILE_NAME) as temporary:
        temporary.write_text(text.getvalue())
