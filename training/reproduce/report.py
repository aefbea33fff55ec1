"""What the grid found, written for a reader: Markdown, HTML, JSON, CSV and PNG."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.atomic import atomic_path
from training.reproduce.comparisons import advantage, means, settings
from training.reproduce.document import (
    Heading,
    Paragraph,
    Part,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from training.reproduce.plots import CAPTIONS
from training.reproduce.published import TITLES
from training.reproduce.results import Results
from training.reproduce.scale import Scale
from training.reproduce.speed import Cost
from training.reproduce.systems import SYSTEMS
from training.reproduce.tables import Row, all_tables

HOW_TO_READ = (
    "A cell reads: ours ± standard deviation over seeds (printed, ours minus printed). A cell in "
    "brackets alone was printed and not run at this scale; a dash was not reported; † marks a "
    "printed number with a remark in the CSV file. All in percent. Our network stands first, the "
    "printed family in brackets after it: where they differ, so do the levels."
)


@dataclass(frozen=True)
class Circumstances:
    """Where and how the numbers were made."""

    command: str
    note: str
    """Of the user: how the images were compressed, for instance."""
    versions: dict[str, str]
    machine: str


@dataclass(frozen=True)
class Findings:
    """What the report shows beside the results."""

    costs: Sequence[Cost]
    figures: Sequence[str]
    """Names of those drawn in ``folder / "figures"``."""


def write_report(
    folder: Path, scale: Scale, results: Results, beside: Findings, made: Circumstances
) -> None:
    """Write ``report.md``, ``report.html``, ``results.json``, ``costs.json`` and ``tables/*.csv``.

    Raises:
        OSError: a file cannot be written.
    """
    tables = all_tables(results)
    for name, rows in tables.items():
        _write_csv(folder / "tables" / f"{_file_name(name)}.csv", rows)
    _write(folder / "results.json", json.dumps(results.as_json(), indent=1) + "\n")
    measured = {"made": asdict(made), "costs": [asdict(cost) for cost in beside.costs]}
    _write(folder / "costs.json", json.dumps(measured, indent=1) + "\n")
    parts = [
        *_head(scale, results, made),
        *means(results),
        *advantage(results),
        *settings(results),
        *_printed_tables(tables),
        *_figures(beside.figures),
        *_costs(beside.costs, made),
        *_details(results),
    ]
    _write(folder / "report.md", to_markdown(parts))
    _write(folder / "report.html", to_html(f"Reproduction, {scale.name} scale", parts, folder))


def _head(scale: Scale, results: Results, made: Circumstances) -> list[Part]:
    rows = []
    for entry in results.sets:
        if entry["role"] == "in-distribution":
            size = f"{entry['train']:,} + {entry['test']:,} test"
            note = made.note or entry["note"]
            rows.append((entry["name"], entry["role"], size, note))
        else:
            size = f"{entry['images']:,}"
            rows.append((entry["name"], f"shown to {entry['in_data']}", size, entry["note"]))
    return [
        Heading(f"The papers' tables and figures, {scale.name} scale", 1),
        Paragraph(scale.words),
        Paragraph(
            f"Made by: {made.command}. {len(results.trainings)} networks evaluated, "
            f"{scale.recipe.epochs} epochs, {scale.seeds} seed{'s' * (scale.seeds > 1)} for the "
            f"main losses. {', '.join(f'{k} {v}' for k, v in made.versions.items())}."
        ),
        Paragraph(
            "Higher score means more in-distribution in every system; thresholds and tuning see "
            "no test image and no out-distribution. Every image takes one path to the network's "
            "input: centre crop, antialiased bicubic resize, nothing where the size fits."
        ),
        Heading("Images"),
        Table(("set", "role", "images", "how made"), tuple(rows)),
    ]


def _printed_tables(tables: dict[str, list[Row]]) -> list[Part]:
    parts: list[Part] = [Heading("Tables"), Paragraph(HOW_TO_READ)]
    for name, rows in tables.items():
        title = f"{name}: {TITLES[name]}" if name in TITLES else f"{name}, ours alone"
        parts.append(Heading(title, 3))
        for metric in dict.fromkeys(row.metric for row in rows):
            of_metric = [row for row in rows if row.metric == metric]
            run = [row for row in of_metric if row.ours is not None]
            rest = [row for row in of_metric if row.ours is None]
            if run:
                parts.append(_pivot(metric, run))
            if rest:
                parts.append(_pivot(metric, rest, f"{metric}: {len(rest)} printed, not run here"))
    return parts


def _pivot(metric: str, rows: Sequence[Row], folded: str = "") -> Table:
    methods = tuple(dict.fromkeys(row.method for row in rows))
    places = dict.fromkeys((row.network, row.in_data, row.out_data) for row in rows)
    lines = []
    for place in places:
        here = {r.method: r for r in rows if (r.network, r.in_data, r.out_data) == place}
        runs = [row.ours for row in here.values() if row.ours]
        sizes = f"{runs[0].n_in:,} / {runs[0].n_out:,}" if runs else ""
        seeds = "/".join(str(n) for n in sorted({run.seeds for run in runs}))
        cells = [_cell(here[method]) if method in here else "" for method in methods]
        lines.append((*place, sizes, seeds, *cells))
    header = (metric, "in", "out", "n in / out", "seeds", *methods)
    return Table(header, tuple(lines), folded)


def _cell(row: Row) -> str:
    mark = "†" if row.flag and row.flag != "not-reported" else ""
    printed = f"{row.published:.1f}{mark}" if row.published is not None else "-"
    if row.ours is None:
        return f"({printed})"
    if row.difference is None:
        return str(row.ours)
    return f"{row.ours} ({printed}, {row.difference:+.1f})"


def _figures(names: Sequence[str]) -> list[Part]:
    pictures = [Picture(f"figures/{name}.png", CAPTIONS[name]) for name in names]
    return [Heading("Figures"), *pictures]


def _costs(costs: Sequence[Cost], made: Circumstances) -> list[Part]:
    measured = {cost.system: cost for cost in costs}
    rows = []
    for system in SYSTEMS:
        cost = measured.get(system.name)
        time = (f"{cost.passes:.2f}", f"{cost.milliseconds:.3f}") if cost else ("-", "-")
        rows.append((system.name, system.needs, system.passes, *time))
    header = ("system", "needs beside its training", "passes", "measured passes", "ms an image")
    return [
        Heading("What each system costs"),
        Paragraph(
            f"Time an image over the time of a plain pass of the same network in the same round, "
            f"median of interleaved rounds; {made.machine}. The one part of this report that a "
            "second run does not repeat to the last digit."
        ),
        Table(header, tuple(rows)),
    ]


def _details(results: Results) -> list[Part]:
    parts: list[Part] = [Heading("Details")]
    if results.chosen:
        rows = [
            (
                entry["training"],
                entry["system"],
                ", ".join(
                    f"{key} {value:g}"
                    for key, value in entry.items()
                    if key not in ("training", "system")
                ),
            )
            for entry in results.chosen
        ]
        parts += [
            Paragraph("Chosen on held-out and adversarial images:"),
            Table(("network", "system", "chosen"), tuple(rows)),
        ]
    learned = [entry for entry in results.trainings if "scales" in entry]
    rows = [
        (
            entry["words"],
            " to ".join(f"{value:.3f}" for value in entry["scales"]),
            " to ".join(f"{value:+.4f}" for value in entry["tilts"]),
        )
        for entry in learned
    ]
    if rows:
        parts += [
            Paragraph("Scales (from 10) and tilts (from 0) that IsoMax2 learned:"),
            Table(("network", "scales", "tilts"), tuple(rows)),
        ]
    for entry in results.fooling:
        parts.append(
            Paragraph(
                f"Fooling images of {entry['network']} on {entry['in_data']}: the attacked network "
                f"gives their class {100 * entry['mean_probability']:.1f} % on average and more "
                f"than 99 % on {100 * entry['share_above_0.99']:.1f} % of them."
            )
        )
    return parts


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for row in rows:
            ours = row.ours
            writer.writerow(
                [
                    *(row.network, row.in_data, row.out_data, row.metric, row.method),
                    "" if row.published is None else row.published,
                    *((ours.mean, ours.std, row.difference) if ours else ("", "", "")),
                    *((ours.n_in, ours.n_out, ours.seeds) if ours else ("", "", "")),
                    *(row.flag, row.note),
                ]
            )


_COLUMNS = (
    *("network", "in_data", "out_data", "metric", "method", "published", "ours", "std"),
    *("difference", "n_in", "n_out", "seeds", "flag", "note"),
)


def _file_name(table: str) -> str:
    return table.lower().replace(" ", "_").replace("+", "plus")


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
