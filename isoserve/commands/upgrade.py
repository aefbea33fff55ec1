"""``isoserve upgrade``: an old model.onnx gets the combined score, without training."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from isoserve.commands.training_options import FILE, FOLDER
from isoserve.commands.training_reports import announce, report
from isoserve.models.card import ModelCard
from isoserve.models.errors import InputError
from isoserve.training.atomic import check_writable
from isoserve.training.data import LabelledImages, load_class_folders, load_images, split
from isoserve.training.evaluation.evaluate import check_classes
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model.export import ExportImages, save, set_card
from isoserve.training.onnx_model.fit_score import Guarantee
from isoserve.training.onnx_model.upgrade import upgrade as upgrade_model
from isoserve.training.recipe import Recipe


@click.command()
@click.argument("model_file", type=FILE)
@click.argument("source")
@click.option("--output", type=FILE, help="Model file; MODEL_FILE is replaced if not given.")
@click.option(
    "--held-out",
    type=FOLDER,
    metavar="FOLDER",
    help="Images the model was not trained on, CLASS/*; needed where SOURCE is not the very "
    "set of images that the model was trained and calibrated on.",
)
@click.option(
    "--data-root",
    type=FOLDER,
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
def upgrade(
    model_file: Path, source: str, output: Path | None, held_out: Path | None, data_root: Path
) -> None:
    """Give MODEL_FILE the combined score, from the images SOURCE that it was trained on.

    The network stays as it is: nothing is trained. SOURCE is what ``isoserve train`` was given;
    the part of it that was held out then scales the views and calibrates now.

    \b
    Example:
      isoserve upgrade model.onnx photos/ --output upgraded.onnx
    """
    target = output or model_file
    model, card = read_model(model_file)
    if card.precision != "float32":
        raise InputError(
            f"{model_file} is {card.precision}: upgrade the float32 model it was made of, and "
            "quantise that again"
        )
    check_writable(target.parent)
    images = load_images(source, "train", card.input, data_root)
    check_classes(images, card)
    announce(images)
    if held_out is None:
        parts = _split_as_then(images, card)
    else:
        others = load_class_folders(held_out, card.input)
        check_classes(others, card)
        announce(others)
        parts = ExportImages(others, images)
    guarantee = Guarantee(card.calibration.alpha, card.calibration.delta)
    upgraded, new_card = upgrade_model(model, card, parts, guarantee)
    new_card = new_card.model_copy(
        update={"created": datetime.now(UTC).replace(microsecond=0)},
    )
    set_card(upgraded, new_card)
    save(upgraded, target)
    report(new_card, target)


def _split_as_then(images: LabelledImages, card: ModelCard) -> ExportImages:
    """The images that were trained on and those that were held out, by the card's recipe."""
    digest = images.digest()
    if "held_out" not in card.recipe:
        raise InputError(
            "the card does not say which images were held out of the training: give images the "
            "model was not trained on by --held-out"
        )
    if digest != card.data.digest:
        raise InputError(
            f"{images.name} is not what the model was trained and calibrated on (digest "
            f"{digest[:12]}, in the card {card.data.digest[:12]}), so which of its images were "
            "held out is not known: give images it was not trained on by --held-out"
        )
    then = {name: card.recipe[name] for name in ("held_out", "alpha", "delta")}
    training, held_out = split(images, Recipe(seed=card.seed, **then))
    return ExportImages(held_out, training)
