"""``isoserve train``: from a folder of images to a checkpoint and a ``model.onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from lightning_fabric import Fabric

from isoserve.options import build, options_of
from models.backbones import build_backbone
from models.card import InputSpec
from models.errors import InputError
from training.checkpoint import FILE_NAME
from training.data import LabelledImages, load_images
from training.fit import fit
from training.recipe import Recipe


@click.command()
@click.argument("source")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Folder for the run."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --output.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
@click.option("--accelerator", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--devices", default="auto", show_default=True, help="How many, or which.")
@click.option("--nodes", default=1, show_default=True, help="Machines; start by torchrun.")
@options_of(Recipe)
def train(
    source: str,
    output: Path,
    resume: bool,
    data_root: Path,
    accelerator: str,
    devices: str,
    nodes: int,
    **given: Any,
) -> None:
    """Train on SOURCE: an image folder (train/CLASS/*, or CLASS/*) or a named data set.

    \b
    Example:
      isoserve train photos/ --output runs/photos --network resnet9_32 --epochs 30
    """
    recipe = build(Recipe, given)
    if (output / FILE_NAME).exists() and not resume:
        raise InputError(f"{output} holds a run: add --resume to go on, or choose another --output")
    images = load_images(source, "train", input_spec(recipe), data_root)
    fabric = Fabric(
        accelerator=accelerator, devices=devices, num_nodes=nodes, precision=recipe.precision
    )
    fabric.launch()
    if fabric.is_global_zero:
        _announce(images)
    fit(fabric, recipe, source, images, output)


def input_spec(recipe: Recipe) -> InputSpec:
    """The recipe's input: its own side, or the size the network was made for."""
    try:
        side = recipe.image_size or build_backbone(recipe.network).input_size
    except ValueError as error:
        raise InputError(str(error)) from error
    return InputSpec(height=side, width=side)


def _announce(images: LabelledImages) -> None:
    click.echo(f"{len(images)} images of {len(images.classes)} classes from {images.name}")
    for line in images.skipped:
        click.echo(f"skipped {line}", err=True)
