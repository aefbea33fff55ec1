"""``isoserve quantize``: a model.onnx -> its int8 version, measured against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from isoserve.commands.options import build, options_of
from isoserve.commands.training_options import FILE, FOLDER, data_root_option
from isoserve.models.errors import InputError
from isoserve.training.atomic import check_writable
from isoserve.training.data import load_class_folders, load_images
from isoserve.training.evaluation.evaluate import check_classes
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model.export import save
from isoserve.training.onnx_model.quantize import Quantized, QuantizeOptions
from isoserve.training.onnx_model.quantize import quantize as quantize_model
from isoserve.training.out_distributions import load_out_distributions
from isoserve.training.skipped import report_skipped


@click.command()
@click.argument("model_file", type=FILE)
@click.argument("images_folder", type=FOLDER)
@click.option("--output", type=FILE, required=True, help="Model file to write.")
@click.option(
    "--ood",
    multiple=True,
    default=("gaussian", "uniform"),
    show_default=True,
    metavar="SOURCE",
    help="Out-distribution: a folder, NAME=FOLDER, a named data set, gaussian or uniform; repeat.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each --ood.")
@data_root_option
@click.option(
    "--training",
    type=FOLDER,
    metavar="FOLDER",
    help="The images that MODEL_FILE was trained on, CLASS/*: the density score's statistics are "
    "fitted again on them; if not given, the float32 model's stay.",
)
@options_of(QuantizeOptions)
def quantize(
    model_file: Path,
    images_folder: Path,
    output: Path,
    ood: tuple[str, ...],
    limit: int | None,
    data_root: Path,
    training: Path | None,
    **given: Any,
) -> None:
    """Make an int8 version of MODEL_FILE, calibrated on IMAGES_FOLDER/CLASS/*.

    The images must be new to the model. Nothing is written when int8 loses more than the bounds.

    \b
    Example:
      isoserve quantize model.onnx fresh-photos/ --output int8.onnx --ood other-photos/
    """
    options = build(QuantizeOptions, given)
    if output.exists() and output.samefile(model_file):
        raise InputError(f"--output is MODEL_FILE ({model_file}); the float32 model is kept")
    model, card = read_model(model_file)
    check_writable(output.parent)
    images = load_class_folders(images_folder, card.input)
    outs = load_out_distributions(ood, card.input, data_root, limit, card.classes)
    report_skipped(images, *outs)
    seen = None
    if training is not None:
        seen = load_images(str(training), "train", card.input, data_root)
        check_classes(seen, card)
    result = quantize_model(model, card, images, outs, options, seen)
    save(result.model, output)
    _report(result, (model_file, output))


def _report(result: Quantized, files: tuple[Path, Path]) -> None:
    cost = result.cost
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    style = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(f"on {cost.n} images", "float32", "int8", "loss", box=style)
    rows = [("accuracy", cost.accuracy)]
    rows += [(f"AUROC, {name}", change) for name, change in cost.auroc.items()]
    for name, change in rows:
        table.add_row(name, *(f"{x:.4f}" for x in (change.float32, change.int8, change.loss)))
    old, new = (file.stat().st_size for file in files)
    table.add_row("file, MB", f"{old / 1e6:.2f}", f"{new / 1e6:.2f}", "")
    console.print(table)
    for engine, by_size in cost.speedup.items():
        for size, ratio in by_size.items():
            console.print(
                f"images a second on one core by {engine}, batch {size}: "
                f"{ratio:.2f} times float32's"
            )
    console.print(f"written: {files[1]}")
    if not cost.gains:
        engines = " or ".join(cost.speedup)
        click.echo(
            f"8 bits gain nothing here by {engines}: serve the float32 file, {files[0]}", err=True
        )
