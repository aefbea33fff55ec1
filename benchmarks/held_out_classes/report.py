"""results.jsonl as a page: python -m benchmarks.held_out_classes.report FOLDER"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SCORES = ("entropic", "boundary", "density", "combined")
HEAD = """# Ways to train, judged by classes that were held out

<!-- Written by benchmarks/held_out_classes; change it there. -->

Each network was trained on CIFAR-10 (JPEG) without two of its classes. *Unseen*: AUROC of those
classes' images against held-out ones of the others. *Synthetic*: noise, torn and blended images,
mean over seven kinds, of the combined score; TNR is the share rejected where 95 % of the
in-distribution images are kept. No out-distribution was looked at. Means over the seeds named;
each seed's own figures are in [results.jsonl](results.jsonl). **No comparison here has a third
seed**: that fine-tuning EfficientNet-Lite0 and being taught by it do better than training from
random weights, and what PixMix, cutout and the optimizer bring, rests on two; label smoothing and
normalised distances were tried with one.
"""


def main() -> None:
    folder = Path(sys.argv[1])
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    (folder / "README.md").write_text(page(rows))


def page(rows: list[Row]) -> str:
    """Markdown, a table a length of training."""
    parts = [HEAD]
    for group in sorted({_length(row) for row in rows}):
        chosen = [row for row in rows if _length(row) == group]
        parts.append(_table(chosen, f"{group} epochs (fine-tuning: half of them)"))
    devices = ", ".join(sorted({row["device"] for row in rows}))
    parts.append(f"Trained on: {devices}.\n")
    return "\n".join(parts)


def _length(row: Row) -> int:
    """Epochs of the fast recipe in the run that the row was part of."""
    return int(row["epochs"]) * (2 if row["variant"].startswith("fine-tuned") else 1)


def _table(rows: list[Row], title: str) -> str:
    lines = [
        f"## {title}\n",
        "| variant | seeds | accuracy | unseen: entropic | boundary | density | combined "
        "| synthetic: AUROC | TNR |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        seeds = ", ".join(str(row["seed"]) for row in own)

        def mean(value: Callable[[Row], float], of: list[Row] = own) -> str:
            return f"{statistics.fmean(map(value, of)):.3f}"

        cells = [mean(lambda row: row["accuracy"])]
        cells += [mean(lambda row, s=score: row[s]["near_auroc"]) for score in SCORES]
        cells += [
            mean(lambda row, k=key: statistics.fmean(row["combined"][k].values()))
            for key in ("synthetic_auroc", "synthetic_tnr")
        ]
        lines.append(f"| {variant} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
