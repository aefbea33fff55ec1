"""``isoserve wrap``: a classifier's own ONNX file -> a model.onnx that gives verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from isoserve.commands.training_options import FILE, FOLDER
from isoserve.commands.training_reports import report
from isoserve.models.card import DEFAULT_ALPHA, DEFAULT_DELTA, ScoreKind
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.wrapping import wrap as wrapping
from isoserve.training.wrapping.preprocessing import Layout, ValueRange


@click.command()
@click.argument("model", type=FILE)
@click.option(
    "--images",
    type=FOLDER,
    required=True,
    metavar="FOLDER",
    help="In-distribution images, CLASS/*, that MODEL was not trained on.",
)
@click.option("--output", type=FILE, required=True, help="Model file to write.")
@click.option(
    "--classes",
    type=FILE,
    help="Text file of the class names, one a line, in the order of MODEL's outputs; the folder's "
    "names in order if not given.",
)
@click.option(
    "--size",
    metavar="SIDE|HEIGHTxWIDTH",
    help="Of the network's input, in pixels; MODEL's own if not given.",
)
@click.option(
    "--mean",
    default="0",
    show_default=True,
    metavar="A,B,C",
    help="Of each channel, in units of --range and the order of MODEL's channels; subtracted.",
)
@click.option(
    "--std", default="1", show_default=True, metavar="A,B,C", help="Divided by, after --mean."
)
@click.option(
    "--range",
    "value_range",
    type=click.Choice(get_args(ValueRange)),
    default="0..1",
    show_default=True,
    help="What pixels are brought to before --mean and --std.",
)
@click.option("--bgr", is_flag=True, help="MODEL takes blue first.")
@click.option("--layout", type=click.Choice(get_args(Layout)), help="MODEL's own if not given.")
@click.option(
    "--crop",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of both sides that the input shows, from the middle: 0.875 for 224 out of 256.",
)
@click.option(
    "--features",
    metavar="TENSOR",
    help="Name of the tensor that the last linear layer takes; found if not given.",
)
@click.option(
    "--training",
    type=FOLDER,
    metavar="FOLDER",
    help="Images that MODEL was trained on, CLASS/*, for the statistics of its features; if not "
    "given, a part of --images sets these.",
)
@click.option(
    "--expect-accuracy",
    type=float,
    help="Share of --images that MODEL should classify right; more than 0.1 less is refused. If "
    "not given, under 0.5 is, and more than 0.1 less than another usual preprocessing gives.",
)
@click.option("--name", help="The model's name when served; the file's if not given.")
@click.option(
    "--score",
    type=click.Choice(get_args(ScoreKind)),
    default="combined",
    show_default=True,
    help="Which score decides.",
)
@click.option(
    "--alpha",
    type=float,
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Share of in-distribution images that may be rejected.",
)
@click.option(
    "--delta",
    type=float,
    default=DEFAULT_DELTA,
    show_default=True,
    help="Chance that the realised share exceeds alpha at the card's guaranteed_alpha.",
)
@click.option(
    "--held-out",
    type=float,
    default=wrapping.HELD_OUT,
    show_default=True,
    help="Share of --images that calibrates; the others set the statistics.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Fixes which.")
@click.option("--licence", default="", help="Licence of the weights, for the card.")
@click.option("--note", default="", help="On the images, for the card.")
def wrap(
    model: Path,
    output: Path,
    classes: Path | None,
    size: str | None,
    mean: str,
    std: str,
    **given: Any,
) -> None:
    """Make a model.onnx of a classifier trained elsewhere, MODEL, without training.

    MODEL is an ONNX file that takes float images and gives logits or probabilities; the layer
    before its softmax is linear. What it expects of pixels is stated by --mean, --std, --range,
    --bgr, --layout, --size and --crop, and checked by its accuracy on the images. One part of
    these sets the statistics of its features, the others calibrate.

    \b
    Example:
      isoserve wrap resnet50.onnx --images photos/ --output model.onnx \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --crop 0.875
    """
    card = wrapping.wrap(
        model,
        output,
        classes=None if classes is None else _lines(classes),
        input_size=None if size is None else _size(size),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        **given,
    )
    report(card, output)


def _lines(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"--classes {printable(str(file))} is not a text file in UTF-8") from error
    found = [name for name in names if name]
    if len(found) < 2:
        raise InputError(
            f"--classes {printable(str(file))} names {len(found)} classes; it must name at least "
            "two, one a line"
        )
    return found


def _size(text: str) -> int | tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"--size is {text!r}; it must be a side, 224, or height x width, 224x320")
    numbers = [int(side) for side in sides]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise InputError(
            f"{option} is {text!r}; it must be three numbers, one per channel: 0.5,0.5,0.5"
        ) from error
