"""Our numbers beside the printed ones: joined by name, averaged over seeds, never mixed up."""

from __future__ import annotations

import numpy as np
import pytest

from isoserve.training.reproduce.results import Record, Results
from isoserve.training.reproduce.tables import all_tables, natural_means


def record(value: float, seed: int = 0, **changes: object) -> Record:
    fields = {
        "network": "densenet100_32",
        "in_data": "cifar10",
        "out_data": "svhn",
        "metric": "AUROC",
        "method": "IsoMax2/ES",
        "n_in": 10_000,
        "n_out": 26_032,
    }
    return Record(seed=seed, value=value, **{**fields, **changes})


def test_a_measured_cell_stands_beside_the_printed_one() -> None:
    values = [96.0, 98.0, 97.3]
    results = Results("test", [record(value, seed) for seed, value in enumerate(values)])
    row = all_tables(results)["IsoMax2 table 1"][0]
    assert row.published == 97.8
    assert row.ours is not None
    assert row.ours.mean == pytest.approx(np.mean(values))
    assert row.ours.std == pytest.approx(np.std(values, ddof=1))
    assert row.difference == pytest.approx(np.mean(values) - 97.8)
    assert (row.ours.seeds, row.ours.n_in, row.ours.n_out) == (3, 10_000, 26_032)
    assert row.network == "densenet100_32 (DenseNet)"


def test_one_seed_has_no_deviation() -> None:
    row = all_tables(Results("test", [record(96.0)]))["IsoMax2 table 1"][0]
    assert row.ours is not None
    assert row.ours.std is None


def test_every_printed_cell_stays_and_is_shown_once() -> None:
    tables = all_tables(Results("test", [record(96.0)]))
    for name, rows in tables.items():
        if name == "All systems":
            assert len(rows) == 1
            continue
        keys = {(r.network, r.in_data, r.out_data, r.metric, r.method) for r in rows}
        assert len(keys) == len(rows)
    assert len(tables["IsoMax2 table 1"]) == 216
    assert sum(row.ours is not None for row in tables["IsoMax2 table 1"]) == 1


def test_what_was_never_printed_stands_alone() -> None:
    results = Results("test", [record(90.0, out_data="scenes"), record(80.0, in_data="digits")])
    rows = [row for row in all_tables(results)["IsoMax2 table 1"] if row.ours is not None]
    assert [row.published for row in rows] == [None, None]
    assert [row.difference for row in rows] == [None, None]


def test_noise_is_left_out_of_the_tables_and_means_that_have_none() -> None:
    results = Results("test", [record(99.0, out_data="gaussian"), record(90.0)])
    tables = all_tables(results)
    assert all(row.out_data != "gaussian" for row in tables["IsoMax2 table 1"])
    assert any(row.out_data == "gaussian" for row in tables["IsoMax2 table 5"])
    key = ("densenet100_32", "cifar10", "AUROC", "IsoMax2/ES")
    assert natural_means(results)[key].mean == 90.0


def test_natural_means_average_the_sets_first_and_the_seeds_after() -> None:
    values = {("svhn", 0): 90.0, ("scenes", 0): 94.0, ("svhn", 1): 80.0, ("scenes", 1): 90.0}
    records = [record(value, seed, out_data=out) for (out, seed), value in values.items()]
    found = natural_means(Results("test", records))
    summary = found["densenet100_32", "cifar10", "AUROC", "IsoMax2/ES"]
    assert summary.mean == pytest.approx(88.5)
    assert summary.std == pytest.approx(np.std([92.0, 85.0], ddof=1))
    assert summary.seeds == 2


def test_studies_do_not_mix_with_the_main_columns() -> None:
    results = Results("test", [record(96.0), record(50.0, method="IsoMax2/ES n=500")])
    row = all_tables(results)["IsoMax2 table 1"][0]
    assert row.ours is not None
    assert row.ours.mean == 96.0
    assert row.ours.seeds == 1
