"""What docs/results says of a run is what the run's own files say."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "docs/results"
STEP = "cifar10-jpeg-10-epochs"
ONE_CYCLE = "cifar10-jpeg-one-cycle"
NATURAL = ("tinyimagenet", "svhn", "cifar100", "scenes", "textures")


def mean_aurocs(run: str) -> dict[str, dict[int, float]]:
    """Method -> seed -> AUROC averaged over the natural sets, in percent."""
    records: list[dict[str, Any]] = json.loads((RESULTS / run / "results.json").read_text())[
        "records"
    ]
    found: dict[str, dict[int, list[float]]] = {}
    for record in records:
        if record["metric"] == "AUROC" and record["out_data"] in NATURAL:
            seeds = found.setdefault(record["method"], {})
            seeds.setdefault(record["seed"], []).append(record["value"])
    return {
        method: {seed: statistics.fmean(values) for seed, values in seeds.items()}
        for method, seeds in found.items()
    }


def advantage(aurocs: dict[str, dict[int, float]], method: str, other: str) -> float:
    """Of one method over another, in points, averaged over the seeds of both."""
    seeds = aurocs[method].keys() & aurocs[other].keys()
    return statistics.fmean(aurocs[method][seed] - aurocs[other][seed] for seed in seeds)


def test_the_words_on_three_seeds_agree_with_the_records() -> None:
    aurocs = mean_aurocs(ONE_CYCLE)
    words = (RESULTS / "README.md").read_text()
    for method, other in (
        ("IsoMax2/ES", "SoftMax/MPS"),
        ("IsoMax2/ES", "SoftMax/ES"),
        ("IsoMax2/ES", "IsoMax/ES"),
        ("IsoMax2/MPS", "SoftMax/MPS"),
        ("IsoMax2/MPS", "IsoMax2/ES"),
        ("KNN/IsoMax2", "KNN/SoftMax"),
    ):
        assert sorted(aurocs[method]) == sorted(aurocs[other]) == [0, 1, 2]
        assert f"| {method} | {other} | {advantage(aurocs, method, other):+.1f} |" in words
    means = {method: statistics.fmean(seeds.values()) for method, seeds in aurocs.items()}
    assert sorted(means, key=means.__getitem__)[-2:] == ["KNN/SoftMax", "KNN/IsoMax2"]


def test_a_better_schedule_brings_isomax2_more_than_softmax() -> None:
    before, after = mean_aurocs(STEP), mean_aurocs(ONE_CYCLE)
    words = (RESULTS / "README.md").read_text()
    for method in ("SoftMax/MPS", "SoftMax/ES", "IsoMax2/ES"):
        step, one_cycle = before[method][0], after[method][0]
        assert f"| {method} | {step:.1f} | {one_cycle:.1f} |" in words


@pytest.mark.parametrize("run", [STEP, ONE_CYCLE])
def test_odin_and_mahalanobis_cost_three_passes(run: str) -> None:
    costs = json.loads((RESULTS / run / "costs.json").read_text())["costs"]
    passes = {cost["system"]: cost["passes"] for cost in costs}
    assert passes["ODIN"] > 3
    assert passes["Mahalanobis"] > 3
    assert 0.8 < passes["IsoMax2/ES"] < 1.2
