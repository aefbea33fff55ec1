"""The papers' tables with our numbers beside the printed ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isoserve.training.reproduce.datasets import UNNATURAL
from isoserve.training.reproduce.published import (
    TABLES,
    Published,
    read_published,
    same_name,
    same_network,
)
from isoserve.training.reproduce.results import METRICS, Record, Results, Summary
from isoserve.training.reproduce.systems import SYSTEMS

SummaryKey = tuple[str, str, str, str, str]
"""(network, in, out, metric, method)."""

MeanKey = tuple[str, str, str, str]
"""(network, in, metric, method)."""

SYSTEM_NAMES = tuple(system.name for system in SYSTEMS)


@dataclass(frozen=True)
class Row:
    """One cell of a table: what was printed, what was measured, or both. In percent."""

    table: str
    network: str
    """Ours where measured, with the printed family where it is another."""
    in_data: str
    out_data: str
    metric: str
    method: str
    published: float | None
    flag: str
    note: str
    ours: Summary | None

    @property
    def difference(self) -> float | None:
        """Ours minus the printed number."""
        if self.ours is None or self.published is None:
            return None
        return self.ours.mean - self.published


def all_tables(results: Results) -> dict[str, list[Row]]:
    """Every table of :data:`published.TABLES`, measured rows first, then the printed rest."""
    summaries = results.summaries()
    return {table: _table(table, summaries) for table in TABLES} | {
        "All systems": _systems_table(summaries)
    }


def natural_means(results: Results) -> dict[MeanKey, Summary]:
    """(network, in, metric, system) -> mean over natural out-distributions, then over seeds.

    The standard deviation is of the seeds' means.
    """
    sizes: dict[MeanKey, tuple[int, int]] = {}
    for key, record in _natural_records(results):
        n_in, n_out = sizes.get(key, (record.n_in, 0))
        sizes[key] = n_in, n_out + (record.n_out if record.seed == 0 else 0)
    found = {}
    for key, by_seed in natural_means_by_seed(results).items():
        means = list(by_seed.values())
        std = statistics.stdev(means) if len(means) > 1 else None
        found[key] = Summary(statistics.fmean(means), std, len(means), *sizes[key])
    return found


def natural_means_by_seed(
    results: Results, methods: Sequence[str] = SYSTEM_NAMES
) -> dict[MeanKey, dict[int, float]]:
    """(network, in, metric, method) -> seed -> mean over natural out-distributions."""
    values: dict[MeanKey, dict[int, list[float]]] = {}
    for key, record in _natural_records(results, methods):
        values.setdefault(key, {}).setdefault(record.seed, []).append(record.value)
    return {
        key: {seed: statistics.fmean(found) for seed, found in by_seed.items()}
        for key, by_seed in values.items()
    }


def _natural_records(
    results: Results, methods: Sequence[str] = SYSTEM_NAMES
) -> Iterator[tuple[MeanKey, Record]]:
    for record in results.records:
        natural = record.out_data.lower() not in UNNATURAL
        if natural and record.metric in METRICS and record.method in methods:
            yield (record.network, record.in_data, record.metric, record.method), record


def _table(table: str, summaries: dict[SummaryKey, Summary]) -> list[Row]:
    printed = read_published(table)
    methods = {cell.method for cell in printed}
    metrics = {cell.metric for cell in printed}
    noise_too = any(cell.out_data.lower() in UNNATURAL for cell in printed)
    measured = {
        key: summary
        for key, summary in summaries.items()
        if key[4] in methods
        and key[3] in metrics
        and (noise_too or key[2].lower() not in UNNATURAL)
    }
    rows, used = [], set()
    for key, summary in measured.items():
        cell = _printed_for(key, printed)
        used.add(cell)
        rows.append(_row(table, key, summary, cell))
    rows += [
        Row(
            table=table,
            network=cell.model,
            in_data=cell.in_data,
            out_data=cell.out_data,
            metric=cell.metric,
            method=cell.method,
            published=cell.value,
            flag=cell.flag,
            note=cell.note,
            ours=None,
        )
        for cell in printed
        if cell not in used
    ]
    return rows


def _systems_table(summaries: dict[SummaryKey, Summary]) -> list[Row]:
    keys = [key for key in summaries if key[3] in METRICS and key[4] in SYSTEM_NAMES]
    return [_row("All systems", key, summaries[key], None) for key in keys]


def _printed_for(key: SummaryKey, printed: list[Published]) -> Published | None:
    network, in_data, out_data, metric, method = key
    return next(
        (
            cell
            for cell in printed
            if same_network(network, cell.model)
            and same_name(in_data, cell.in_data)
            and same_name(out_data, cell.out_data)
            and (metric, method) == (cell.metric, cell.method)
        ),
        None,
    )


def _row(table: str, key: SummaryKey, summary: Summary, cell: Published | None) -> Row:
    network, in_data, out_data, metric, method = key
    return Row(
        table=table,
        network=f"{network} ({cell.model})" if cell else network,
        in_data=in_data,
        out_data=out_data,
        metric=metric,
        method=method,
        published=cell.value if cell else None,
        flag=cell.flag if cell else "",
        note=cell.note if cell else "",
        ours=summary,
    )
