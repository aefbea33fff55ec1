"""``isoserve average``: the mean of several fine-tuned networks as one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from isoserve.commands.export import training_images
from isoserve.commands.training_options import FOLDER, data_root_option
from isoserve.commands.training_reports import announce
from isoserve.models.errors import InputError
from isoserve.training.atomic import check_writable
from isoserve.training.checkpoint import FILE_NAME
from isoserve.training.data import split
from isoserve.training.fabric import make_fabric
from isoserve.training.metrics_file import write_metrics
from isoserve.training.trainer import evaluate_split
from isoserve.training.weight_averaging import average as average_runs
from isoserve.training.weight_averaging import check_alike


@click.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option("--output", type=FOLDER, required=True, help="Folder of the new run.")
@click.option("--source", help="The training images, if they have moved since.")
@data_root_option
def average(runs: tuple[Path, ...], output: Path, source: str | None, data_root: Path) -> None:
    """Average the weights of RUNS that were fine-tuned from the same published weights.

    The mean of such networks costs what one costs and is usually more accurate than each (a "model
    soup"). Train the RUNS with different augmentation or learning rates, but the same seed, so that
    all of them held out the same images; then export the average.

    \b
    Example:
      isoserve average runs/a runs/b runs/c --output runs/mean
      isoserve export runs/mean
    """
    members = check_alike(runs)
    first = members[0]
    if (output / FILE_NAME).exists():
        raise InputError(f"{output} already holds a run; choose another --output")
    check_writable(output)
    images = training_images(runs[0], first, source, data_root)
    announce(images)
    training, held_out = split(images, first.parsed_recipe())
    fabric = make_fabric(first.parsed_recipe(), "auto", "1", 1)
    merged = average_runs(fabric, members, training)
    for name, checkpoint in zip((*map(str, runs), "mean"), (*members, merged), strict=True):
        network = checkpoint.classifier().to(fabric.device)
        row = evaluate_split(fabric, network, held_out, checkpoint)
        click.echo(
            f"{name}: held-out accuracy {row['held_out_accuracy']:.4f}, "
            f"loss {row['held_out_loss']:.4f}"
        )
    merged = replace(merged, history=[row])
    merged.save(output)
    write_metrics(merged.history, output)
