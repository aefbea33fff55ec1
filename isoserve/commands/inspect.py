"""``isoserve inspect``: a model's card as a page to read in a terminal."""

from __future__ import annotations

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isoserve.commands.card_tables import CardTable, card_tables, fact_lines
from isoserve.commands.options import build, defaults_but
from isoserve.models.errors import InputError
from isoserve.models.text import escape_control
from isoserve.service.inference.model import Model, ModelRefused, load_model, read_model_bytes
from isoserve.service.settings import ENV_PREFIX, Settings

PIPE_WIDTH = 120
"""Columns where no terminal says how many it has."""


@click.command()
@click.argument("model_file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The card as it stands in the file.")
def inspect(model_file: Path, as_json: bool) -> None:
    """Show what MODEL_FILE says of itself, after checking that it can serve.

    Classes, accuracy, calibration, and how well it recognises what it was not trained on.

    \b
    Examples:
      isoserve inspect model.onnx
      isoserve inspect model.onnx --json | jq .calibration.threshold
    """
    model = open_model(model_file)
    if as_json:
        click.echo(escape_control(model.card.model_dump_json(indent=2), "\n"))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    heading = Text(escape_control(model.card.name), "bold")
    path = escape_control(str(model_file))
    heading.append(f"  {path}, sha256 {model.sha256[:16]}, can serve\n", "not bold")
    console.print(heading)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="cyan", no_wrap=True)
    for name, value in fact_lines(model.card):
        facts.add_row(name, Text(escape_control(value)))
    console.print(facts)
    for table in card_tables(model.card):
        console.print(Text(f"\n{escape_control(table.title)}", "bold"))
        console.print(_drawn(table, console.is_terminal))


def open_model(path: Path) -> Model:
    """Load a model file as the server does, with all its checks.

    Raises:
        InputError: it could not serve; the message says why.
    """
    try:
        data = read_model_bytes(path, _max_model_bytes())
        model = load_model("file", 1, data, slots=1, max_batch=1)
    except ModelRefused as error:
        raise InputError(f"{path}: {error}") from error
    model.name = model.card.name
    return model


def _max_model_bytes() -> int:
    others = defaults_but(Settings, ["max_model_bytes"])
    return build(Settings, others, ENV_PREFIX).max_model_bytes


def _drawn(table: CardTable, on_terminal: bool) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD if on_terminal else None, padding=(0, 2, 0, 0))
    drawn.add_column(table.headings[0])
    for heading in table.headings[1:]:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(escape_control(cell)) for cell in row))
    return drawn
