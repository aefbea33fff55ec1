"""``isoserve calibrate``: p-values of other images, or as another engine computes them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import click

from isoserve.commands.training_options import FILE, FOLDER
from isoserve.commands.training_reports import announce, report
from isoserve.models.card import DEFAULT_ALPHA, DEFAULT_DELTA, ScoreKind
from isoserve.models.errors import InputError
from isoserve.models.openvino_engine import ComputePrecision
from isoserve.training.atomic import check_writable
from isoserve.training.data import load_class_folders
from isoserve.training.evaluation import evaluate as evaluation
from isoserve.training.onnx_graph import computed_by_openvino, read_model
from isoserve.training.onnx_model import export as exporting
from isoserve.training.onnx_model.fit_score import Guarantee, fit_score
from isoserve.training.onnx_model.upgrade import with_other_score


@click.command()
@click.argument("model_file", type=FILE)
@click.argument("images_folder", type=FOLDER)
@click.option("--output", type=FILE, help="Model file; MODEL_FILE is replaced if not given.")
@click.option(
    "--alpha",
    type=float,
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Share of in-distribution images that may be rejected.",
)
@click.option(
    "--delta", type=float, default=DEFAULT_DELTA, show_default=True, help="Chance to exceed alpha."
)
@click.option(
    "--score",
    type=click.Choice(get_args(ScoreKind)),
    help="What is to decide: the entropic score, or all views combined; as in the file if not "
    "given.",
)
@click.option(
    "--engine",
    type=click.Choice(["onnxruntime", "openvino"]),
    default="onnxruntime",
    show_default=True,
    help="What computes the calibration scores: the engine that is to serve the file.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="In which arithmetic; bfloat16 with openvino.",
)
def calibrate(
    model_file: Path,
    images_folder: Path,
    output: Path | None,
    alpha: float,
    delta: float,
    score: ScoreKind | None,
    engine: Literal["onnxruntime", "openvino"],
    precision: ComputePrecision,
) -> None:
    """Calibrate MODEL_FILE again, on images it was not trained on: IMAGES_FOLDER/CLASS/*.

    \b
    Example:
      isoserve calibrate model.onnx fresh-photos/ --output calibrated.onnx
      isoserve calibrate model.onnx fresh-photos/ --score entropic
      isoserve calibrate model.onnx fresh-photos/ --engine openvino --precision bfloat16
    """
    for option, value in (("--alpha", alpha), ("--delta", delta)):
        if not 0 < value < 1:
            raise InputError(f"{option} is {value}; it must be between 0 and 1")
    if precision == "bfloat16" and engine != "openvino":
        raise InputError("--precision bfloat16 needs --engine openvino")
    target = output or model_file
    model, card = read_model(model_file)
    check_writable(target.parent)
    images = load_class_folders(images_folder, card.input)
    evaluation.check_classes(images, card)
    announce(images)
    if score is not None and score != card.score:
        model = with_other_score(model, card, images, score)
    with computed_by_openvino(precision) if engine == "openvino" else nullcontext():
        result = fit_score(model, None, images, Guarantee(alpha, delta), card)
    calibration = result.calibration.model_copy(update={"engine": engine, "precision": precision})
    new_card = replace(result, calibration=calibration).added_to(card)
    exporting.set_card(result.model, new_card)
    exporting.save(result.model, target)
    report(new_card, target)
