"""``isoserve train``, ``export``, ``evaluate``: from images to a ``model.onnx``."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import torch

from isoserve.commands.recipe_options import read_recipe, recipe_options
from isoserve.commands.training_reports import announce, report
from isoserve.models.backbones import build_backbone
from isoserve.models.card import (
    InputSpec,
    ScoreKind,
    check_model_name,
)
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.atomic import check_writable
from isoserve.training.checkpoint import FILE_NAME, Checkpoint
from isoserve.training.data import LabelledImages, split
from isoserve.training.data_source import DataSource
from isoserve.training.duplicates import describe_duplicates, digests_of, digests_of_split
from isoserve.training.evaluation import evaluate as evaluation
from isoserve.training.fabric import make_fabric
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model import export as exporting
from isoserve.training.onnx_model.half_weights import with_half_weights
from isoserve.training.out_distributions import load_out_distributions
from isoserve.training.recipe import Recipe
from isoserve.training.recipes import fit
from isoserve.training.skipped import report_skipped

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

_data_root = click.option(
    "--data-root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
_name = click.option("--name", help="The model's name when served; the data's name if not given.")
_licence = click.option("--licence", default="", help="Licence of the weights, for the card.")
_note = click.option(
    "--note", default="", help="How the images were compressed or resized, for the card."
)


_labels = click.option(
    "--labels",
    type=FILE,
    help="CSV of path,label (and split, if it has one); its paths begin in the folder SOURCE.",
)
_score = click.option(
    "--score",
    type=click.Choice(get_args(ScoreKind)),
    default="combined",
    show_default=True,
    help="What decides: the entropic score, or its combination with boundary and density.",
)


@click.command()
@click.argument("source")
@click.option("--output", type=FOLDER, required=True, help="Folder for the run.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --output.")
@_labels
@click.option(
    "--calibration",
    type=FOLDER,
    help="Images to calibrate on, CALIBRATION/CLASS/*; else SOURCE's val/, else a held-out part.",
)
@_data_root
@_name
@_licence
@_note
@_score
@click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--devices", default="auto", show_default=True, help="How many, or which.")
@click.option("--nodes", default=1, show_default=True, help="Machines; start by torchrun.")
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
    fabric = make_fabric(recipe, accelerator, devices, nodes)
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
    try:
        checkpoint = fit(fabric, recipe, data.text(), images, output)
    except KeyboardInterrupt:
        if (output / FILE_NAME).exists() and fabric.is_global_zero:
            click.echo("add --resume to go on from the last whole epoch", err=True)
        raise
    if fabric.is_global_zero:
        _export(
            checkpoint,
            images,
            output / "model.onnx",
            score=score,
            name=name,
            licence=licence,
            note=note,
        )


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--output", type=FILE, help="Model file; RUN/model.onnx if not given.")
@click.option("--source", help="The training images, if they have moved since.")
@_data_root
@_name
@_licence
@_note
@_score
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
    data = DataSource.parse(checkpoint.source)
    if source:
        data = replace(data, location=source)
    images = data.load("train", checkpoint.input_spec(), data_root)
    if images.digest() != checkpoint.data_digest:
        raise InputError(
            f"{images.name} is not what {run} was trained on (digest {images.digest()[:12]}, "
            f"then {checkpoint.data_digest[:12]}): its held-out images could have been trained on"
        )
    _export(
        checkpoint,
        images,
        target,
        score=score,
        name=name,
        licence=licence,
        note=note,
        half=half,
    )


@click.command()
@click.argument("model_file", type=FILE)
@click.argument("source")
@click.option(
    "--ood",
    multiple=True,
    metavar="SOURCE",
    help="Out-distribution: a folder, NAME=FOLDER, a named data set, gaussian or uniform; repeat.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each --ood.")
@click.option("--output", type=FOLDER, required=True, help="For evaluation.json and scores.png.")
@click.option("--update-card", is_flag=True, help="Also write the results into the model's card.")
@_labels
@_data_root
def evaluate(
    model_file: Path,
    source: str,
    ood: tuple[str, ...],
    limit: int | None,
    output: Path,
    update_card: bool,
    labels: Path | None,
    data_root: Path,
) -> None:
    """Evaluate MODEL_FILE on SOURCE's test images and against out-distributions.

    \b
    Example:
      isoserve evaluate model.onnx photos/ --ood other-photos/ --ood gaussian --output results
    """
    model, card = read_model(model_file)
    check_writable(output)
    test = DataSource(source, str(labels or "")).load("test", card.input, data_root)
    announce(test)
    in_training = digests_of_split(source, "train")
    if line := describe_duplicates(test, "test", in_training, "training"):
        click.echo(line, err=True)
    outs = load_out_distributions(ood, card.input, data_root, limit)
    report_skipped(*outs)
    result = evaluation.evaluate(model, card, test, outs)
    result.save(output, card)
    new_card = result.added_to(card)
    if update_card:
        exporting.set_card(model, new_card)
        exporting.save(model, model_file)
    report(new_card, output)


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


def _export(
    checkpoint: Checkpoint,
    images: LabelledImages,
    path: Path,
    *,
    score: ScoreKind,
    name: str | None,
    licence: str,
    note: str,
    half: bool = False,
) -> None:
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
