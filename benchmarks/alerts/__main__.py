"""False alarms a month on in-distribution traffic, and minutes to an alert on foreign traffic.

    python -m benchmarks.alerts --months 100 --runs 100 --seed 0

Runs deploy/prometheus/rules/model.yml and model_alerts.yml themselves over simulated counters and
writes results.json and results.md beside this file. A month is 30 days after one day of history,
evaluated every 30 s, its model calibrated anew; the streams that strain the rules get a quarter of
the months.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import chi2

from benchmarks.alerts.rules import Firing, Rule, model_rules, run
from benchmarks.alerts.traffic import STEP_SECONDS, Traffic

HERE = Path(__file__).parent
DAY = int(86400 / STEP_SECONDS)
RATES = (0.1, 1.0, 10.0)
FOREIGN_SHARES = (0.05, 0.1, 0.2, 0.5)
RECALLS = (0.3, 0.6, 0.9)
NONE = "-"
INDEPENDENT = "independent images"


@dataclass(frozen=True)
class Stream:
    """A kind of in-distribution traffic, and what is special about it."""

    note: str
    traffic: Traffic


def in_distribution_streams() -> list[Stream]:
    """The three rates of independent images, then what strains the rules."""
    month = [Traffic(rate, steps=31 * DAY) for rate in RATES]
    return [
        *(Stream(INDEPENDENT, traffic) for traffic in month),
        *(Stream("alpha 0.01", replace(traffic, alpha=0.01)) for traffic in month),
        *(Stream("500 calibration images", replace(t, calibration_images=500)) for t in month),
        *(Stream("5 frames a scene", replace(traffic, frames_per_scene=5)) for traffic in month),
        *(Stream("10 frames a scene", replace(traffic, frames_per_scene=10)) for traffic in month),
    ]


def false_alarms(rules: list[Rule], stream: Stream, months: int, seed: int) -> dict[str, Any]:
    """Alarms by name over some months; an alert that fires for several windows counts once."""
    alarms: dict[str, int] = {}
    for month in range(months):
        rng = np.random.default_rng([seed, month])
        steps = stream.traffic.steps
        for name, firing in _by_name(run(rules, stream.traffic.counters(rng), steps)).items():
            alarms[name] = alarms.get(name, 0) + firing.episodes()
    total = sum(alarms.values())
    return {
        "note": stream.note,
        "images_per_second": stream.traffic.images_per_second,
        "months": months,
        "a_month": total / months,
        "upper_95": chi2.ppf(0.95, 2 * (total + 1)) / 2 / months,
        "by_alert": {name: count / months for name, count in sorted(alarms.items())},
    }


def minutes_to_alert(rules: list[Rule], traffic: Traffic, runs: int, seed: int) -> dict[str, Any]:
    """From the first foreign image to the first alert of any kind, and to the first page."""
    first: dict[str, list[float]] = {"alert": [], "page": []}
    for index in range(runs):
        rng = np.random.default_rng([seed, index])
        firings = run(rules, traffic.counters(rng), traffic.steps)
        for kind, times in first.items():
            fired = [
                int(np.argmax(f.active[traffic.foreign_from :]))
                for f in firings
                if f.active[traffic.foreign_from :].any() and kind in ("alert", f.severity)
            ]
            times.append(min(fired) * STEP_SECONDS / 60 if fired else np.inf)
    return {
        "images_per_second": traffic.images_per_second,
        "foreign_share": traffic.foreign_share,
        "recall": traffic.recall,
        "runs": runs,
        **{kind: _quantiles(times) for kind, times in first.items()},
    }


def _quantiles(minutes: list[float]) -> dict[str, float | None]:
    """Median and nine-in-ten, None where that many runs had no alert within the day."""
    found = {
        name: float(np.quantile(minutes, q, method="higher"))
        for name, q in (("median", 0.5), ("nine_in_ten", 0.9))
    }
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def _by_name(firings: list[Firing]) -> dict[str, Firing]:
    merged: dict[str, Firing] = {}
    for firing in firings:
        known = merged.get(firing.name)
        active = firing.active if known is None else firing.active | known.active
        merged[firing.name] = replace(firing, active=active)
    return merged


def as_markdown(results: dict[str, Any]) -> str:
    """Both tables."""
    lines = [
        "# How often the alerts are wrong, and how soon they are right",
        "",
        f"Written by `{results['command']}` in {results['seconds']:.0f} s. It runs the rule files",
        "themselves; what is simulated is the traffic, not a camera.",
        "",
        "## False alarms a month",
        "",
        "Every alert on verdicts together; an alert that fires and resolves counts once. The model",
        "is calibrated anew each month (on 5,000 images, alpha 0.05, unless it says otherwise), so",
        "unlucky calibrations are in it. The aim is under one.",
        "",
        "| in-distribution traffic | images/s | months | alarms a month | 95 % upper bound | "
        "which |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["false_alarms"]:
        which = ", ".join(f"{name} {value:.2g}" for name, value in row["by_alert"].items()) or NONE
        lines.append(
            f"| {row['note']} | {row['images_per_second']:g} | {row['months']} | "
            f"{row['a_month']:.2g} | {row['upper_95']:.2g} | {which} |"
        )
    lines += [
        "",
        "Frames of one scene share verdict, score and class, so 10 frames a scene leave a tenth of",
        "the evidence the rules believe they have: thin such a stream before it reaches the",
        "service, or count on the alarms of the last rows.",
        "",
        "## Minutes from the first foreign image to an alert",
        "",
        "Median, and in brackets what nine of ten runs stay under, of "
        f"{results['minutes_to_alert'][0]['runs']} runs; {NONE} where that many runs had none",
        "within a day. Recall is the part of the foreign images with a p-value up to 0.05.",
        "",
        "| foreign | recall | images/s | any alert | page |",
        "|---|---|---|---|---|",
    ]
    for row in results["minutes_to_alert"]:
        lines.append(
            f"| {row['foreign_share']:.0%} | {row['recall']} | {row['images_per_second']:g} | "
            f"{_minutes(row['alert'])} | {_minutes(row['page'])} |"
        )
    return "\n".join(lines) + "\n"


def _minutes(found: dict[str, float | None]) -> str:
    median, tail = (
        NONE if found[name] is None else f"{found[name]:.0f}" for name in ("median", "nine_in_ten")
    )
    return f"{median} ({tail})" if median != NONE else NONE


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the alerts on simulated traffic.")
    parser.add_argument("--months", type=int, default=100)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rules, started = model_rules(), perf_counter()
    alarms = []
    for stream in in_distribution_streams():
        months = given.months if stream.note == INDEPENDENT else max(1, given.months // 4)
        alarms.append(false_alarms(rules, stream, months, given.seed))
        print(alarms[-1], flush=True)
    times = []
    for share in FOREIGN_SHARES:
        for recall in RECALLS:
            for rate in RATES:
                # A day and a half of history, then a day to be noticed in.
                traffic = Traffic(rate, int(2.5 * DAY), share, int(1.5 * DAY), recall)
                times.append(minutes_to_alert(rules, traffic, given.runs, given.seed))
                print(times[-1], flush=True)
    results = {
        "command": f"python -m benchmarks.alerts --months {given.months} --runs {given.runs} "
        f"--seed {given.seed}",
        "seconds": perf_counter() - started,
        "traffic": asdict(Traffic(1.0, DAY)),
        "false_alarms": alarms,
        "minutes_to_alert": times,
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "results.md").write_text(as_markdown(results))


if __name__ == "__main__":
    main()
