"""What a report says of its numbers, and that it is silent on what was not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoserve.training.reproduce.report import Environment, Findings, write_report
from isoserve.training.reproduce.results import METRICS, Record, Results
from isoserve.training.reproduce.scale import SCALES
from isoserve.training.reproduce.systems import SYSTEMS


def record(metric: str, method: str, out_data: str, n_out: int) -> Record:
    return Record("resnet9_narrow_32", "cifar10", out_data, metric, method, 0, 80.0, 10_000, n_out)


def report(folder: Path, records: list[Record]) -> str:
    made = Environment("isoserve reproduce", "", {}, "a machine")
    write_report(folder, SCALES["cpu"], Results("cpu", records), Findings([], []), made)
    return (folder / "report.md").read_text()


@pytest.fixture
def of_acet(tmp_path: Path) -> str:
    found = [record(metric, "ACET", "svhn", 1_083) for metric in METRICS]
    return report(tmp_path, [*found, record("test accuracy", "SoftMax", "", 0)])


def test_every_score_and_metric_is_explained(of_acet: str) -> None:
    before_images, _, _ = of_acet.partition("## Images")
    scores = {system.name.partition("/")[2] for system in SYSTEMS} - {"", "SoftMax", "IsoMax2"}
    for word in (*scores, *METRICS, "KNN", "ViM", "E_s", "wd", "lr"):
        assert word in before_images


def test_what_was_not_run_has_no_section(of_acet: str) -> None:
    headings = [line for line in of_acet.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Images",
        "## Mean over natural out-distributions",
        "## Tables",
        "## What each system costs",
    ]


def test_a_table_says_its_metric_and_sizes(of_acet: str) -> None:
    table = of_acet.partition("### All systems")[2]
    assert "\n#### AUROC\n\n| network | in | out | n in / out | seeds | ACET |\n" in table
    assert "| resnet9_narrow_32 | cifar10 | svhn | 10,000 / 1,083 | 1 | 80.0 |" in table
    accuracies = of_acet.partition("### IsoMax2 table 4")[2]
    assert "| cifar10 |  | 10,000 | 1 | 80.0 (94.2, -14.2) |" in accuracies
