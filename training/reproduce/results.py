"""The numbers of a reproduction, in the form the tables and figures take them."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

METRICS = ("TNR@TPR95", "AUROC", "DTACC")

FPR = "FPR@95"
"""Measured for OpenOOD's table alone; lower is better."""


@dataclass(frozen=True)
class Record:
    """One measured number, in percent."""

    network: str
    in_data: str
    out_data: str
    """Empty for an accuracy."""
    metric: str
    method: str
    seed: int
    value: float
    n_in: int
    n_out: int


@dataclass(frozen=True)
class Summary:
    """A cell over its seeds."""

    mean: float
    std: float | None
    """Over seeds, n - 1 below the line; None for one seed."""
    seeds: int
    n_in: int
    n_out: int

    def __str__(self) -> str:
        """As tables show it: 84.6 ± 0.3."""
        return f"{self.mean:.1f}" + (f" ± {self.std:.1f}" if self.std is not None else "")

    @classmethod
    def of(cls, records: list[Record]) -> Summary:
        values = [record.value for record in records]
        std = statistics.stdev(values) if len(values) > 1 else None
        first = records[0]
        return cls(statistics.fmean(values), std, len(values), first.n_in, first.n_out)


@dataclass
class Results:
    """Everything that a second run of the same command gives again to the last digit."""

    scale: str
    records: list[Record] = field(default_factory=list)
    trainings: list[dict[str, Any]] = field(default_factory=list)
    """Recipe, history and learned scales of each network."""
    chosen: list[dict[str, Any]] = field(default_factory=list)
    """What the tuning of ODIN and Mahalanobis chose."""
    sets: list[dict[str, Any]] = field(default_factory=list)
    """Name, size, digest and making of each set of images."""
    fooling: list[dict[str, Any]] = field(default_factory=list)
    """How sure the attacked networks were of the fooling images."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def summaries(self) -> dict[tuple[str, str, str, str, str], Summary]:
        """(network, in, out, metric, method) -> its summary over seeds, in order of appearance."""
        groups: dict[tuple[str, str, str, str, str], list[Record]] = {}
        for record in self.records:
            key = (
                record.network,
                record.in_data,
                record.out_data,
                record.metric,
                record.method,
            )
            groups.setdefault(key, []).append(record)
        return {key: Summary.of(records) for key, records in groups.items()}
