"""Which unit size a scoring run of a billion images should have: simulated, with deaths.

    python -m benchmarks.unit_sizes

Writes ``benchmarks/results/unit_sizes.json`` and the page ``docs/unit-sizes.md``. Seeded: the same
numbers each time, in under a minute.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.unit_sizes.simulation import Run, redone_on_paper, simulate

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "unit_sizes.json"
PAGE = ROOT / "docs" / "unit-sizes.md"

SEED = 0
LIVES = (1, 6, 24)
"""Mean life of a worker, in hours: spot machines of a bad day, of a usual one, a steady cluster."""

UNITS = (1_000, 3_000, 10_000, 30_000, 100_000)
CHOSEN_LIFE = 6


def measure() -> dict[str, Any]:
    """Every size at every life."""
    rows = []
    for hours in LIVES:
        for unit in UNITS:
            run = Run(unit, 3600.0 * hours)
            found = asdict(simulate(run, SEED)) | {"redone_on_paper": redone_on_paper(run)}
            found["lost"] = found["redone"] + found["opening"] + found["waiting"]
            rows.append({"unit": unit, "mean_life_hours": hours, **found})
            print(json.dumps(rows[-1]))
    common = asdict(Run(0, 0))
    del common["unit"], common["mean_life"]
    return {"command": "python -m benchmarks.unit_sizes", "seed": SEED, **common, "rows": rows}


def page(result: dict[str, Any]) -> str:
    """The page's text, of what the command found."""
    best = {
        hours: min(
            (row for row in result["rows"] if row["mean_life_hours"] == hours),
            key=lambda row: float(row["lost"]),
        )
        for hours in LIVES
    }
    usual = best[CHOSEN_LIFE]
    advice = "; ".join(
        f"{row['unit']:,} at {hours} h, which loses {row['lost']:.1%}"
        for hours, row in best.items()
    )
    tables = "\n".join(_table(result, hours) for hours in LIVES)
    pace, files, restart = (
        f"{result[name]:g}" for name in ("images_per_second", "unit_seconds", "restart_seconds")
    )
    return f"""\
# How large a unit should be

<!-- Written by {result["command"]}; change it there. -->

[`isoserve score`](score.md) cuts its work into units of `--unit-images`. A worker that dies takes
its unit along, so large units redo much, and leave workers idle at the end; small ones cost a file
each. This is a simulation, event by event, of {result["images"]:,} images on
{result["workers"]:,} workers that score {pace} images a second each (a photograph on one core;
paces differ by {result["spread"]:.0%}), with {files} s a unit for its files and {restart} s from a
death to the successor's first image. Lives are exponentially distributed, seed {result["seed"]}.

**Choose {usual["unit"]:,} for a billion images** where workers live about {CHOSEN_LIFE} hours:
it loses {usual["lost"]:.1%} of the work. The best size by mean life: {advice}.

What matters is the time of a unit beside the mean life, and how many units each worker gets: with
workers ten times as fast take units ten times as large, and with fewer images smaller ones. The
default of 1,000 is never far from the best here.

{tables}
*Redone* is work that died and was done again, *files* is what opening and writing takes, *idle* is
workers without a unit while the last ones end; all are shares of the time that the images
themselves take. *On paper* is (eˣ - 1)/x - 1, x being a unit's time over the mean life; it tries a
unit for ever. Units *failed* had a worker die under them on both tries, which is no fault of
theirs: the run ends with exit code 1 and names them, and the same command does them.
"""


HEADINGS = ("images a unit", "units", "redone", "on paper", "files", "idle", "lost in all")


def _table(result: dict[str, Any], hours: int) -> str:
    headings = (*HEADINGS, "failed", "hours")
    lines = [
        f"## Workers that live {hours} h on average\n",
        f"| {' | '.join(headings)} |",
        "|---:" * len(headings) + "|",
    ]
    for row in result["rows"]:
        if row["mean_life_hours"] != hours:
            continue
        names = ("redone", "redone_on_paper", "opening", "waiting", "lost")
        cells = [
            *(f"{row['unit']:,}", f"{row['units']:,}"),
            *(f"{row[name]:.2%}" for name in names),
            *(f"{row['failed_units']:,}", f"{row['hours']:.2f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    result = measure()
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(page(result))
    print(f"{RESULT.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
