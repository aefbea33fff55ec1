"""``isoserve export``: a run's checkpoint as a calibrated ``model.onnx``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click

from isoserve.commands.training_options import (
    FILE,
    FOLDER,
    data_root_option,
    licence_option,
    name_option,
    note_option,
    score_option,
)
from isoserve.commands.training_reports import report
from isoserve.models.card import (
    ModelCard,
    ScoreKind,
    check_model_name,
)
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.atomic import check_writable
from isoserve.training.checkpoint import Checkpoint
from isoserve.training.data import LabelledImages, split
from isoserve.training.data_source import DataSource
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model import export as exporting
from isoserve.training.onnx_model.half_weights import with_half_weights


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--output", type=FILE, help="Model file; RUN/model.onnx if not given.")
@click.option("--source", help="The training images, if they have moved since.")
@data_root_option
@name_option
@licence_option
@note_option
@score_option
@click.option("--half", is_flag=True, help="Keep the weights in 16 bits: half the file.")
def export(
    run: Path,
    output: Path | None,
    source: str | None,
    data_root: Path,
    half: bool,
    name: str | None,
    licence: str,
    note: str,
    score: ScoreKind,
) -> None:
    """Make a model.onnx of the last checkpoint in RUN, a folder that train wrote.

    \b
    Example:
      isoserve export runs/photos --output model_repository/photos/1/model.onnx
    """
    target = output or run / "model.onnx"
    if name is not None:
        check_model_name(name, "--name")
    checkpoint = Checkpoint.load(run)
    check_writable(target.parent)
    images = training_images(run, checkpoint, source, data_root)
    write_model(
        checkpoint,
        images,
        target,
        score=score,
        name=name,
        licence=licence,
        note=note,
        half=half,
    )


def training_images(
    run: Path, checkpoint: Checkpoint, source: str | None, data_root: Path
) -> LabelledImages:
    """What the run was trained on, from where it lay then or from ``source``.

    Raises:
        InputError: the images there are others.
    """
    data = DataSource.parse(checkpoint.source)
    if source:
        data = replace(data, location=source)
    images = data.load("train", checkpoint.input_spec(), data_root)
    if images.digest() != checkpoint.data_digest:
        raise InputError(
            f"{images.name} is not what {run} was trained on (digest {images.digest()[:12]}, "
            f"then {checkpoint.data_digest[:12]}): its held-out images could have been trained on"
        )
    return images


def write_model(
    checkpoint: Checkpoint,
    images: LabelledImages,
    path: Path,
    *,
    score: ScoreKind,
    name: str | None,
    licence: str,
    note: str,
    half: bool = False,
) -> ModelCard:
    """Calibrate a checkpoint's network on the images held out of these; the file's card."""
    training, held_out = split(images, checkpoint.parsed_recipe())
    of_data = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.data_name)[:64].strip("-._")
    model = exporting.export_checkpoint(
        checkpoint,
        exporting.ExportImages(held_out, training),
        score=score,
        name=name or of_data or "model",
        licence=printable(licence),
        note=printable(note),
    )
    if half:
        model = with_half_weights(model, held_out)
    exporting.save(model, path)
    _, card = read_model(path)
    report(card, path)
    return card
