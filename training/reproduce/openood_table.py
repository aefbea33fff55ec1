"""OpenOOD v1.5's near and far table: our systems on its sets, beside its published rows."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from isoserve.training.reproduce.document import Heading, Paragraph, Part, Table
from isoserve.training.reproduce.openood_sets import PROTOCOL, Group, how_to_give, shown_for
from isoserve.training.reproduce.plan import LOSS_NAMES
from isoserve.training.reproduce.published import (
    OPENOOD_SOURCE,
    LeaderboardEntry,
    read_leaderboard,
    same_name,
)
from isoserve.training.reproduce.results import FPR, Record, Results, Summary
from isoserve.training.reproduce.scale import OPENOOD, Scale
from isoserve.training.reproduce.systems import SYSTEMS
from isoserve.training.reproduce.tables import Row

COLUMNS = (
    *("IsoMax2/ES", "IsoMax2/boundary", "IsoMax2/density", "IsoMax2/combined"),
    *("IsoMax2/MPS", "KNN/IsoMax2", "SoftMax/MPS", "KNN/SoftMax"),
)
"""The systems that are shown, where they were run."""

COMPARED = ("MSP", "KNN", "fDBD", "MDS", "VIM", "EBO", "ODIN")
"""Scores of the leaderboard's plain training that stand beside ours; the rest is folded away."""

PLAIN = "CrossEntropy"
"""The leaderboard's name of training without any method of its own."""

_GROUPS: tuple[Group, ...] = ("near", "far")


@dataclass(frozen=True)
class Line:
    """One row of the table: a set, or the mean of a group."""

    group: Group
    name: str
    """Of the benchmark's set; "mean" for the group's."""
    remark: str
    """What it was measured on, or what is missing."""
    values: dict[str, Summary]
    """By system; empty where the set is missing."""


def openood_rows(results: Results, scale: Scale) -> list[Row]:
    """The table's cells, measured and published; none unless the study was asked for."""
    if OPENOOD not in scale.studies:
        return []
    rows = [
        _row(place, metric, line, system, value)
        for place in _places(results)
        for metric in ("AUROC", FPR)
        for line in table_lines(results, place, metric)
        for system, value in (line.values.items() or [("", None)])
    ]
    return rows + [row for entry in read_leaderboard() for row in _published(entry)]


def openood_parts(results: Results, rows: list[Row]) -> list[Part]:
    """The table for a reader; nothing where there are no rows."""
    if not rows:
        return []
    parts: list[Part] = [
        Heading("OpenOOD v1.5: near and far"),
        Paragraph(
            "Percent, mean ± standard deviation over seeds. AUROC: higher is better. FPR@95: share "
            "of test images rejected where 95 % of the out-distribution is, as OpenOOD v1.5 has "
            "it; lower is better. A mean is over the sets of its group that are there: one with "
            "a set missing or a stand-in in it is not OpenOOD's number."
        ),
    ]
    for place in _places(results):
        parts.append(Heading(f"{place[0]} on {place[1]}", 3))
        if not same_name(place[1], "cifar10"):
            parts.append(
                Paragraph(
                    f"The benchmark's in-distribution is CIFAR-10, not {place[1]}: these numbers "
                    "are no match for the published ones."
                )
            )
        for metric in ("AUROC", FPR):
            parts += [Heading(metric, 4), _sets_table(table_lines(results, place, metric))]
        parts += [Heading("Near and far means", 4), _means_table(results, place)]
    rest = [entry for entry in read_leaderboard() if not _is_compared(entry)]
    parts += [
        Paragraph(
            f"Published: copied from the {OPENOOD_SOURCE}, not measured here; other networks, "
            "longer training, and no FPR@95 there."
        ),
        _folded(rest),
    ]
    return parts


def table_lines(results: Results, place: tuple[str, str], metric: str) -> list[Line]:
    """The benchmark's sets in its order, the mean after those of a group."""
    records = [
        record
        for record in results.records
        if (record.network, record.in_data) == place
        and record.metric == metric
        and record.method in COLUMNS
    ]
    names = list(dict.fromkeys(record.out_data for record in records))
    notes = {entry["name"]: entry.get("note", "") for entry in results.sets}
    lines = []
    for group in _GROUPS:
        there, stand_ins = [], 0
        wanted_sets = [wanted for wanted in PROTOCOL if wanted.group == group]
        for wanted in wanted_sets:
            shown = shown_for(wanted, names)
            remark = notes.get(shown, "") if shown else how_to_give(wanted)
            if shown:
                there.append(shown)
            if shown and shown != wanted.name:
                stand_ins += 1
                remark = f"stand-in {shown}" + (f": {remark}" if remark else "")
            of_set = [record for record in records if shown and record.out_data == shown]
            lines.append(Line(group, wanted.name, remark, _by_system(of_set)))
        remark = f"{len(there)} of {len(wanted_sets)} sets"
        remark += f", {stand_ins} of them stand-in" if stand_ins else ""
        of_group = [record for record in records if record.out_data in there]
        lines.append(Line(group, "mean", remark, _by_system(of_group)))
    return lines


def _by_system(records: list[Record]) -> dict[str, Summary]:
    """Mean over sets, then over seeds, of each of :data:`COLUMNS` that is there."""
    found = {}
    for system in COLUMNS:
        by_seed: dict[int, list[Record]] = {}
        for record in records:
            if record.method == system:
                by_seed.setdefault(record.seed, []).append(record)
        if by_seed:
            first = next(iter(by_seed.values()))
            means = [statistics.fmean(record.value for record in each) for each in by_seed.values()]
            std = statistics.stdev(means) if len(means) > 1 else None
            n_out = sum(record.n_out for record in first)
            found[system] = Summary(statistics.fmean(means), std, len(means), first[0].n_in, n_out)
    return found


def _places(results: Results) -> list[tuple[str, str]]:
    """(network, in-distribution): those on CIFAR-10, or all where there is none."""
    everywhere = dict.fromkeys(
        (record.network, record.in_data) for record in results.records if record.metric == FPR
    )
    return [place for place in everywhere if same_name(place[1], "cifar10")] or list(everywhere)


def _sets_table(lines: list[Line]) -> Table:
    systems = [system for system in COLUMNS if any(system in line.values for line in lines)]
    rows = []
    for line in lines:
        first = next(iter(line.values.values()), None)
        images = f"{first.n_in:,} / {first.n_out:,}" if first else ""
        cells = [str(line.values.get(system, "-")) for system in systems]
        rows.append((line.group, line.name, line.remark, images, *cells))
    return Table(("group", "set", "measured on", "n in / out", *systems), tuple(rows))


def _means_table(results: Results, place: tuple[str, str]) -> Table:
    means = {
        (line.group, metric): line
        for metric in ("AUROC", FPR)
        for line in table_lines(results, place, metric)
        if line.name == "mean"
    }
    summaries = results.summaries()
    sets = "; ".join(f"{group} {means[group, 'AUROC'].remark}" for group in _GROUPS)
    rows = []
    for system in SYSTEMS:
        cells = [
            str(means[group, metric].values.get(system.name, "-"))
            for metric in ("AUROC", FPR)
            for group in _GROUPS
        ]
        if set(cells) != {"-"}:
            accuracy = summaries.get((*place, "", "test accuracy", LOSS_NAMES[system.loss]), "-")
            rows.append((system.name, *cells, str(accuracy), f"here, {place[0]}; {sets}"))
    rows += [_printed(entry) for entry in read_leaderboard() if _is_compared(entry)]
    return Table(_MEANS_HEADER, tuple(rows))


def _folded(entries: list[LeaderboardEntry]) -> Table:
    title = f"The other {len(entries)} published rows"
    return Table(_MEANS_HEADER, tuple(_printed(entry) for entry in entries), title)


_MEANS_HEADER = (
    *("system", "near AUROC", "far AUROC", "near FPR@95", "far FPR@95"),
    *("accuracy", "origin"),
)


def _is_compared(entry: LeaderboardEntry) -> bool:
    return entry.training == PLAIN and entry.score in COMPARED


def _printed(entry: LeaderboardEntry) -> tuple[str, ...]:
    outliers = "; trained on outliers" if entry.outlier_data else ""
    origin = f"published: {entry.network}, {entry.note}{outliers}"
    numbers = (entry.near_auroc, entry.far_auroc, "-", "-", entry.accuracy)
    return (f"{entry.training}/{entry.score}", *numbers, origin)


def _row(
    place: tuple[str, str], metric: str, line: Line, system: str, value: Summary | None
) -> Row:
    return Row(
        table="OpenOOD",
        network=place[0],
        in_data=place[1],
        out_data=f"{line.group} {line.name}",
        metric=metric,
        method=system,
        published=None,
        flag="" if value else "missing",
        note=line.remark,
        ours=value,
    )


def _published(entry: LeaderboardEntry) -> list[Row]:
    outliers = "; trained on outliers" if entry.outlier_data else ""
    return [
        Row(
            table="OpenOOD",
            network=entry.network,
            in_data="cifar10",
            out_data=f"{group} mean",
            metric="AUROC",
            method=f"{entry.training}/{entry.score}",
            published=float(shown.partition(" ± ")[0]),
            flag="published",
            note=f"{shown}; {entry.note}{outliers}; {OPENOOD_SOURCE}",
            ours=None,
        )
        for group, shown in (("near", entry.near_auroc), ("far", entry.far_auroc))
    ]
