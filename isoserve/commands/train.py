"""``isoserve train``: from images to a calibrated ``model.onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
import torch

from isoserve.commands.export import write_model
from isoserve.commands.recipe_options import read_recipe, recipe_options
from isoserve.commands.training_options import (
    FOLDER,
    data_root_option,
    labels_option,
    licence_option,
    name_option,
    note_option,
    score_option,
)
from isoserve.commands.training_reports import announce
from isoserve.models.backbones import build_backbone
from isoserve.models.card import (
    InputSpec,
    ScoreKind,
    check_model_name,
)
from isoserve.models.errors import InputError
from isoserve.training.atomic import check_writable
from isoserve.training.checkpoint import FILE_NAME
from isoserve.training.data import split
from isoserve.training.data_source import DataSource
from isoserve.training.duplicates import describe_duplicates, digests_of, digests_of_split
from isoserve.training.fabric import make_fabric
from isoserve.training.loggers import (
    LoggerName,
    begin_runs,
    finalized,
    log_model,
    make_loggers,
)
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import fit


@click.command()
@click.argument("source")
@click.option("--output", type=FOLDER, required=True, help="Folder for the run.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --output.")
@labels_option
@click.option(
    "--calibration",
    type=FOLDER,
    help="Images to calibrate on, CALIBRATION/CLASS/*; else SOURCE's val/, else a held-out part.",
)
@data_root_option
@name_option
@licence_option
@note_option
@score_option
@click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--devices", default="auto", show_default=True, help="How many, or which.")
@click.option("--nodes", default=1, show_default=True, help="Machines; start by torchrun.")
@click.option(
    "--logger",
    "loggers",
    type=click.Choice(get_args(LoggerName)),
    multiple=True,
    default=("csv",),
    show_default=True,
    help="Where the curves go besides OUTPUT/metrics.csv: OUTPUT/tensorboard, or a run in MLflow, "
    "with the model, registered as --name if that is given. May be repeated.",
)
@recipe_options
def train(
    source: str,
    output: Path,
    resume: bool,
    labels: Path | None,
    calibration: Path | None,
    data_root: Path,
    name: str | None,
    licence: str,
    note: str,
    score: ScoreKind,
    accelerator: str,
    devices: str,
    nodes: int,
    loggers: tuple[LoggerName, ...],
    **given: Any,
) -> None:
    """Train on SOURCE, calibrate, and write OUTPUT/model.onnx.

    SOURCE is an image folder (train/CLASS/*, or CLASS/*), Parquet files, hf:NAME, or one of
    cifar10, cifar100, svhn, fashionmnist. Its val/ calibrates, or else a part of its training
    images that is held out; no pixel of its test images is looked at.

    \b
    Example:
      isoserve train photos/ --output runs/photos --network resnet9_32 --epochs 30
    """
    if (output / FILE_NAME).exists() and not resume:
        raise InputError(f"{output} holds a run: add --resume to go on, or choose another --output")
    if name is not None:
        check_model_name(name, "--name")
    recipe = read_recipe(given, source, accelerator, output if resume else None)
    fabric = make_fabric(recipe, accelerator, devices, nodes, make_loggers(loggers, output, name))
    data = DataSource(source, str(labels or ""), str(calibration or ""))
    images = data.load("train", _input_spec(recipe), data_root)
    training, held_out = split(images, recipe)  # too few are refused before the training
    check_writable(output)
    fabric.launch()
    if fabric.is_global_zero:
        announce(images)
        in_test = digests_of_split(source, "test")
        for line in (
            describe_duplicates(held_out, "calibration", digests_of(training), "training"),
            describe_duplicates(training, "training", in_test, "test"),
        ):
            if line:
                click.echo(line, err=True)
        begin_runs(
            fabric.loggers,
            {
                "source": data.text(),
                "data_digest": images.digest(),
                "classes": len(images.classes),
                "training_images": len(training),
                **recipe.model_dump(),
            },
        )
    with finalized(fabric.loggers):
        try:
            checkpoint = fit(fabric, recipe, data.text(), images, output)
        except KeyboardInterrupt:
            if (output / FILE_NAME).exists() and fabric.is_global_zero:
                click.echo("add --resume to go on from the last whole epoch", err=True)
            raise
        if fabric.is_global_zero:
            path = output / "model.onnx"
            card = write_model(
                checkpoint,
                images,
                path,
                score=score,
                name=name,
                licence=licence,
                note=note,
            )
            log_model(fabric.loggers, path, card)


def _input_spec(recipe: Recipe) -> InputSpec:
    """The recipe's own side, or the size the network was made for."""
    try:
        backbone = build_backbone(recipe.network)
    except ValueError as error:
        raise InputError(f"--network: {error}") from error
    side = recipe.image_size or backbone.input_size
    if side != backbone.input_size:
        try:
            with torch.no_grad():
                backbone.network.eval()(torch.zeros(1, 3, side, side))
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"--image-size is {side}: {recipe.network}, made for {backbone.input_size}, does "
                f"not take it ({error})"
            ) from error
    if recipe.weights != "none":
        try:
            build_backbone(recipe.network, recipe.weights)
        except ValueError as error:
            raise InputError(f"--weights is {recipe.weights}: {error}") from error
    expected = recipe.preprocessing()
    return InputSpec(height=side, width=side, crop=expected.crop if expected else 1.0)
