"""Options that several commands of the training share."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from isoserve.models.card import ScoreKind

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

data_root_option = click.option(
    "--data-root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
name_option = click.option(
    "--name", help="The model's name when served; the data's name if not given."
)
licence_option = click.option("--licence", default="", help="Licence of the weights, for the card.")
note_option = click.option(
    "--note", default="", help="How the images were compressed or resized, for the card."
)

labels_option = click.option(
    "--labels",
    type=FILE,
    help="CSV of path,label (and split, if it has one); its paths begin in the folder SOURCE.",
)
score_option = click.option(
    "--score",
    type=click.Choice(get_args(ScoreKind)),
    default="combined",
    show_default=True,
    help="What decides: the entropic score, or its combination with boundary and density.",
)
