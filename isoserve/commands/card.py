"""``isoserve card``: a model's card as one HTML file with its figures inside."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import click

from isoserve.commands.card_figures import CardFigure, card_figures, evaluation_figures
from isoserve.commands.card_tables import CardTable, card_tables, fact_lines
from isoserve.commands.inspect import open_model
from isoserve.models.card import ModelCard
from isoserve.models.errors import InputError
from isoserve.training.atomic import atomic_path, check_writable
from isoserve.training.data import load_images
from isoserve.training.evaluation.evaluate import evaluate
from isoserve.training.onnx_graph import read_model
from isoserve.training.out_distributions import load_out_distributions
from isoserve.training.skipped import report_skipped


@click.command()
@click.argument("model_file", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The HTML file, replaced where there is one; folders on the way to it are made.",
)
@click.option(
    "--data",
    metavar="SOURCE",
    help="Labelled test images to draw from: a folder with test/CLASS/*, or a named data set.",
)
@click.option(
    "--ood",
    multiple=True,
    metavar="SOURCE",
    help="Out-distribution, with --data: a folder, NAME=FOLDER, gaussian, ...; repeat.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each --ood.")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Where named data sets lie, or are downloaded to.",
)
def card(
    model_file: Path,
    output: Path,
    data: str | None,
    ood: tuple[str, ...],
    limit: int | None,
    data_root: Path,
) -> None:
    """Write MODEL_FILE's card as a page that needs no other file and no network.

    Of the card alone: facts, tables, scores at calibration, calibration images per class. With
    --data also p-value uniformity, rejection by class, reliability and score histograms; with
    --ood also ROC curves. Needs the train extra: pip install 'isoserve[train]'.

    \b
    Examples:
      isoserve card model.onnx --output card.html
      isoserve card model.onnx --output card.html --data photos/ --ood other/ --ood uniform
    """
    if ood and data is None:
        raise InputError("--ood needs --data too: scores are compared with those of test images")
    model = open_model(model_file)
    check_writable(output.parent)
    shown, figures = model.card, card_figures(model.card)
    if data is not None:
        graph, _ = read_model(model_file)
        test = load_images(data, "test", model.card.input, data_root)
        outs = load_out_distributions(ood, model.card.input, data_root, limit, model.card.classes)
        report_skipped(test, *outs)
        evaluation = evaluate(graph, model.card, test, outs)
        shown = evaluation.added_to(model.card)
        figures += evaluation_figures(model.card, evaluation)
    with atomic_path(output) as temporary:
        temporary.write_text(page(shown, model.sha256, figures), encoding="utf-8")
    click.echo(f"written: {output}")


def page(card: ModelCard, sha256: str, figures: list[CardFigure]) -> str:
    """The whole HTML document; nothing in it is loaded from anywhere."""
    facts = [("file", f"model.onnx, sha256 {sha256}"), *fact_lines(card)]
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(card.name)}: model card</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(card.name)}</h1>
<p>An image classifier of {len(card.classes)} classes that says of each image also whether it
is like what it was trained on: it is rejected as unknown where its p-value is at most alpha.</p>
<dl>
{rows}
</dl>
{"".join(_table(table) for table in card_tables(card))}
{"".join(_figure(figure) for figure in figures)}
<details><summary>The card as JSON</summary>
<pre>{escape(card.model_dump_json(indent=2))}</pre></details>
</main>
</body>
</html>
"""


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #8886; }
th:first-child, td:first-child { text-align: left; font-weight: inherit; }
thead th, thead th:first-child { font-weight: 600; }
figure { margin: 2rem 0; }
figure img { width: 100%; background: white; border-radius: 4px; }
pre { overflow-x: auto; font-size: .85rem; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""


def _table(table: CardTable) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f"<h2>{escape(table.title)}</h2>\n<div class='wide' tabindex='0'><table>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def _figure(figure: CardFigure) -> str:
    data = base64.b64encode(figure.svg).decode()
    return (
        f"<figure><h2>{escape(figure.title)}</h2>\n"
        f'<img alt="{escape(figure.words)}" src="data:image/svg+xml;base64,{data}">\n'
        f"<figcaption>{escape(figure.words)}</figcaption></figure>\n"
    )
