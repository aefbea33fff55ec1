"""What the grid found, written for a reader: Markdown, HTML, JSON, CSV and PNG."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from isoserve.models.text import pluralize
from isoserve.training.atomic import atomic_path
from isoserve.training.reproduce.comparisons import advantage, means, settings
from isoserve.training.reproduce.document import (
    Heading,
    Paragraph,
    Part,
    Picture,
    Table,
    to_html,
    to_markdown,
)
from isoserve.training.reproduce.openood_table import openood_parts, openood_rows
from isoserve.training.reproduce.plots import CAPTIONS
from isoserve.training.reproduce.published import TITLES
from isoserve.training.reproduce.results import Results
from isoserve.training.reproduce.scale import Scale
from isoserve.training.reproduce.speed import BATCH, ROUNDS, Cost
from isoserve.training.reproduce.systems import SYSTEMS
from isoserve.training.reproduce.tables import Row, all_tables

HOW_TO_READ = (
    "A cell reads: ours ± standard deviation over seeds (printed, ours minus printed). A cell in "
    "brackets alone was printed and not run at this scale; a dash was not reported; † marks a "
    "printed number with a remark in the CSV file. All in percent. Our network stands first, the "
    "printed family in brackets after it: where they differ, so do the levels."
)

TERMS = (
    "A system is named LOSS/SCORE. MPS: the largest probability. ES: the entropic score, minus the "
    "entropy of the OOD probabilities. MDS: minus the smallest distance to a prototype. KNN: minus "
    "the distance to a near neighbour among the training features. ViM: virtual-logit matching. "
    "The boundary score: distance to the nearest border of the predicted class; density: minus the "
    "Mahalanobis distance to the nearest class; combined: one score of these two and the entropic "
    "score, as an exported model decides by. The OOD probabilities are the softmax of the score "
    "logits: without E_s (the entropic scale), scales or tilts.",
    "TNR@TPR95: share of out-distribution images rejected where at least 95 % of the test images "
    "are kept. AUROC: chance that a test image scores above an out-distribution one. DTACC: mean "
    "of the shares of test images kept and of others rejected, at the best threshold. Train "
    "accuracy: during the last epoch, on augmented images. wd and lr: weight decay of scales and "
    "tilts, and their learning rate as a share of the network's.",
    '[IsoMax2]: "Hyperparameter-Free Isotropic Maximization Loss" (Macêdo et al.). [IsoMax]: '
    '"Isotropy Maximization Loss and Entropic Score" (Macêdo et al., 2021). [IsoMax+]: "Enhanced '
    'Isotropy Maximization Loss" (Macêdo and Ludermir, 2021).',
)
"""What the tables and figures do not say of themselves."""


@dataclass(frozen=True)
class Environment:
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
    folder: Path, scale: Scale, results: Results, beside: Findings, made: Environment
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
    openood = openood_rows(results, scale)
    if openood:
        _write_csv(folder / "tables" / "openood.csv", openood)
    parts = [
        *_head(scale, results, made),
        *openood_parts(results, openood),
        *means(results),
        *advantage(results),
        *settings(results),
        *_printed_tables(tables),
        *_figures(beside.figures, scale),
        *_costs(beside.costs, made),
        *_details(results),
    ]
    _write(folder / "report.md", to_markdown(parts))
    _write(folder / "report.html", to_html(f"Reproduction, {scale.name} scale", parts, folder))


def _head(scale: Scale, results: Results, made: Environment) -> list[Part]:
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
            f"Made by: {made.command}. {pluralize(len(results.trainings), 'network')} evaluated, "
            f"{pluralize(scale.recipe.epochs, 'epoch')}"
            f"{f' (ACET {scale.acet_epochs})' if 'acet' in scale.losses else ''}, "
            f"{pluralize(scale.seeds, 'seed')} for the main losses. "
            f"{', '.join(f'{k} {v}' for k, v in made.versions.items())}."
        ),
        Paragraph(
            "Higher score means more in-distribution in every system; thresholds and tuning see "
            "no test image and no out-distribution. Every image takes one path to the network's "
            "input: centre crop, antialiased bicubic resize, nothing where the size fits."
        ),
        *(Paragraph(text) for text in TERMS),
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
                parts += [Heading(metric, 4), _pivot(run)]
            if rest:
                parts.append(_pivot(rest, f"{metric}: {len(rest)} printed, not run here"))
    return parts


def _pivot(rows: Sequence[Row], folded: str = "") -> Table:
    methods = tuple(dict.fromkeys(row.method for row in rows))
    places = dict.fromkeys((row.network, row.in_data, row.out_data) for row in rows)
    lines = []
    for place in places:
        here = {r.method: r for r in rows if (r.network, r.in_data, r.out_data) == place}
        runs = [row.ours for row in here.values() if row.ours]
        counts = (runs[0].n_in, runs[0].n_out) if runs else ()
        sizes = " / ".join(f"{count:,}" for count in counts if count)  # no n out of an accuracy
        seeds = "/".join(str(n) for n in sorted({run.seeds for run in runs}))
        cells = [_cell(here[method]) if method in here else "" for method in methods]
        lines.append((*place, sizes, seeds, *cells))
    header = ("network", "in", "out", "n in / out", "seeds", *methods)
    return Table(header, tuple(lines), folded)


def _cell(row: Row) -> str:
    mark = "†" if row.flag and row.flag != "not-reported" else ""
    printed = f"{row.published:.1f}{mark}" if row.published is not None else "-"
    if row.ours is None:
        return f"({printed})"
    if row.difference is None:
        return str(row.ours)
    return f"{row.ours} ({printed}, {row.difference:+.1f})"


def _figures(names: Sequence[str], scale: Scale) -> list[Part]:
    if not names:
        return []
    network, in_data = scale.study
    pictures = [Picture(f"figures/{name}.png", CAPTIONS[name]) for name in names]
    return [Heading("Figures"), Paragraph(f"Of {network} on {in_data}, seed 0."), *pictures]


def _costs(costs: Sequence[Cost], made: Environment) -> list[Part]:
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
            f"Measured passes: time an image over the time of a plain pass of the same network in "
            f"the same round, median of {ROUNDS} interleaved rounds of {BATCH} test images; seed "
            f"0; {made.machine}; -: not run. The one part of this report that a second run "
            "does not repeat to the last digit."
        ),
        Table(header, tuple(rows)),
    ]


def _details(results: Results) -> list[Part]:
    parts: list[Part] = []
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
            Paragraph("Chosen on held-out and adversarial images (steps: of a pixel's range):"),
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
    return [Heading("Details"), *parts] if parts else []


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
