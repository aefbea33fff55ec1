"""``isoserve evaluate``: a model on test images and against out-distributions."""

from __future__ import annotations

from pathlib import Path

import click

from isoserve.commands.training_options import (
    FILE,
    FOLDER,
    data_root_option,
    labels_option,
)
from isoserve.commands.training_reports import announce, report
from isoserve.training.atomic import check_writable
from isoserve.training.data_source import DataSource
from isoserve.training.duplicates import describe_duplicates, digests_of_split
from isoserve.training.evaluation import evaluate as evaluation
from isoserve.training.onnx_graph import read_model
from isoserve.training.onnx_model import export as exporting
from isoserve.training.out_distributions import load_out_distributions
from isoserve.training.skipped import report_skipped


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
@labels_option
@data_root_option
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
    outs = load_out_distributions(ood, card.input, data_root, limit, card.classes)
    report_skipped(*outs)
    result = evaluation.evaluate(model, card, test, outs)
    result.save(output, card)
    new_card = result.added_to(card)
    if update_card:
        exporting.set_card(model, new_card)
        exporting.save(model, model_file)
    report(new_card, output)
