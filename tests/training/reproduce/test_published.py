"""The printed numbers the project carries: complete, and flagged where they cannot be right."""

from __future__ import annotations

from collections import defaultdict

import pytest

from isoserve.training.reproduce.published import (
    TABLES,
    TITLES,
    Published,
    read_published,
    same_name,
    same_network,
)


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("IsoMax2 table 1", 2 * 3 * 3 * 3 * 4),  # networks, in, out, metrics, methods
        ("IsoMax2 table 2", 2 * 3 * 3 * 2 * 4),
        ("IsoMax2 table 3", 4 * 2),
        ("IsoMax2 table 4", 2 * 3 * 2 * 3),
        ("IsoMax2 table 5", 2 * 3 * 6 * 3 * 4),
        ("IsoMax table 1", 2 * 3 * 3 * 3 * 3),
        ("IsoMax table 2", 2 * 3 * 3 * 2 * 4),
        ("IsoMax table 3", 2 * 3 * 2),
        ("IsoMax+ table 3", 2 * 3 * 3 * 2 * 3),
    ],
)
def test_every_cell_of_a_table_is_there_once(table: str, cells: int) -> None:
    found = read_published(table)
    keys = {(c.model, c.in_data, c.out_data, c.metric, c.method) for c in found}
    assert len(found) == len(keys) == cells
    assert table in TITLES


def test_numbers_stand_as_printed() -> None:
    cells = {
        (c.model, c.in_data, c.out_data, c.metric, c.method): c
        for table in ("IsoMax2 table 1", "IsoMax2 table 3", "IsoMax2 table 4")
        for c in read_published(table)
    }
    assert cells["DenseNet", "CIFAR10", "SVHN", "TNR@TPR95", "IsoMax2/ES"].value == 87.2
    ablation = cells["DenseNet", "CIFAR10", "Fooling", "DTACC", "IsoMax2/ES wd=no lr=0.1x"]
    assert ablation.value == 86.87
    assert cells["ResNet", "CIFAR10", "", "test accuracy", "IsoMax2"].value == 94.4


def test_both_papers_methods_have_one_name() -> None:
    assert {c.method for c in read_published("IsoMax table 1")} == {
        "SoftMax/MPS",
        "SoftMax/ES",
        "IsoMax/ES",
    }
    assert "IsoMax+/MDS" in {c.method for c in read_published("IsoMax+ table 3")}


def test_exactly_the_flagged_rows_are_impossible() -> None:
    rows: dict[tuple[str, ...], dict[str, Published]] = defaultdict(dict)
    for table in TABLES:
        for cell in read_published(table):
            key = (table, cell.model, cell.in_data, cell.out_data, cell.method)
            rows[key][cell.metric] = cell
    impossible = {
        key
        for key, row in rows.items()
        if {"TNR@TPR95", "DTACC"} <= set(row)
        # Half a last digit of rounding on either side.
        and row["DTACC"].value < (95 + row["TNR@TPR95"].value) / 2 - 0.1
    }
    flagged = {
        key for key, row in rows.items() if any(c.flag == "impossible-row" for c in row.values())
    }
    assert impossible == flagged
    assert {key[3] for key in flagged} == {"Gaussian", "Uniform"}


def test_a_cell_left_out_has_no_value_and_a_flag() -> None:
    missing = [c for c in read_published("IsoMax2 table 2") if c.value is None]
    assert missing
    assert {c.flag for c in missing} == {"not-reported"}
    assert {c.method for c in missing} == {"ACET"}


def test_names_of_ours_meet_the_printed_ones() -> None:
    assert same_name("tinyimagenet", "TinyImageNet-resize")
    assert same_name("cifar10", "CIFAR10")
    assert not same_name("cifar10", "CIFAR100")
    assert same_network("densenet100_32", "DenseNet100")
    assert same_network("resnet9_narrow_32", "ResNet")
    assert not same_network("resnet34_32", "DenseNet")
