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
THIRTY = "cifar10-jpeg-30-epochs"
STUDIES = "cifar10-jpeg-studies"
NATURAL = ("tinyimagenet", "svhn", "cifar100", "scenes", "textures")


def natural_means(run: str, metric: str = "AUROC") -> dict[str, dict[int, float]]:
    """Method -> seed -> the metric averaged over the natural sets, in percent."""
    records: list[dict[str, Any]] = json.loads((RESULTS / run / "results.json").read_text())[
        "records"
    ]
    found: dict[str, dict[int, list[float]]] = {}
    for record in records:
        if record["metric"] == metric and record["out_data"] in NATURAL:
            seeds = found.setdefault(record["method"], {})
            seeds.setdefault(record["seed"], []).append(record["value"])
    return {
        method: {seed: statistics.fmean(values) for seed, values in seeds.items()}
        for method, seeds in found.items()
    }


def advantages(aurocs: dict[str, dict[int, float]], method: str, other: str) -> str:
    """Of one method over another, in points: the mean over three seeds, and each."""
    assert sorted(aurocs[method]) == sorted(aurocs[other]) == [0, 1, 2]
    each = [aurocs[method][seed] - aurocs[other][seed] for seed in (0, 1, 2)]
    return f"{statistics.fmean(each):+.1f} ({', '.join(f'{value:+.1f}' for value in each)})"


@pytest.mark.parametrize(
    ("method", "other"),
    [
        ("IsoMax2/ES", "SoftMax/MPS"),
        ("IsoMax2/ES", "SoftMax/ES"),
        ("IsoMax2/ES", "Energy"),
        ("IsoMax2/MPS", "SoftMax/MPS"),
        ("IsoMax2/MPS", "IsoMax2/ES"),
        ("KNN/IsoMax2", "KNN/SoftMax"),
    ],
)
def test_the_words_on_three_seeds_agree_with_the_records(method: str, other: str) -> None:
    ten, thirty = (advantages(natural_means(run), method, other) for run in (ONE_CYCLE, THIRTY))
    assert f"| {method} | {other} | {ten} | {thirty} |" in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("method", ["SoftMax/MPS", "SoftMax/ES", "IsoMax2/ES"])
def test_the_words_on_schedule_and_length_agree_with_the_records(method: str) -> None:
    found = [f"{natural_means(run)[method][0]:.1f}" for run in (STEP, ONE_CYCLE, THIRTY)]
    assert f"| {method} | {' | '.join(found)} |" in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "variant"),
    [
        ("as in the paper", "wd=no lr=0.1x"),
        *((name, name) for name in ("wd=no lr=1x", "wd=yes lr=1x", "wd=yes lr=0.1x")),
        ("prototypes=normal", "prototypes=normal"),
    ],
)
def test_the_words_on_scales_and_tilts_agree_with_the_records(words: str, variant: str) -> None:
    aurocs = natural_means(STUDIES)
    usual = aurocs["IsoMax2/MPS"]
    found = (
        aurocs[f"IsoMax2/ES {variant}"][0],
        aurocs.get(f"IsoMax2/MPS {variant}", usual)[0],
    )
    assert f"| {words} | {found[0]:.1f} | {found[1]:.1f} |" in (RESULTS / "README.md").read_text()


def test_the_words_on_the_other_studies_agree_with_the_records() -> None:
    aurocs = {method: seeds[0] for method, seeds in natural_means(STUDIES).items()}
    words = " ".join((RESULTS / "README.md").read_text().split())
    deviation = statistics.stdev(natural_means(ONE_CYCLE)["IsoMax2/ES"].values())
    assert f"three seeds of the usual setting the standard deviation is {deviation:.1f}" in words
    lead = aurocs["IsoMax2/ES wd=yes lr=1x"]
    over = [lead - aurocs[method] for method in ("SoftMax/ES", "SoftMax/MPS")]
    assert "{:+.1f} over SoftMax/ES and {:+.1f} over SoftMax/MPS. Prototypes".format(*over) in words
    scales = [aurocs[f"IsoMax/ES E_s={scale}"] for scale in (1, 3, 10)]
    assert "{:.1f} at 1, {:.1f} at 3, {:.1f} at 10".format(*scales) in words
    for variant, images in ((" n=500", "500"), (" n=1500", "1,500"), (" n=3000", "3,000")):
        pair = [aurocs[f"{method}{variant}"] for method in ("IsoMax2/ES", "SoftMax/ES")]
        assert "{:.1f} against {:.1f} with ".format(*pair) + images in words
    ours, softmax = (
        json.loads((RESULTS / f"cifar10-jpeg-{name}" / "evaluation.json").read_text())
        for name in ("former-default", "softmax-like-default")
    )
    gains = [
        100 * statistics.fmean(a[metric] - b[metric] for a, b in pairs(ours, softmax)[:5])
        for metric in ("auroc", "tnr_at_tpr95")
    ]
    assert "is {:+.1f} over SoftMax/ES in AUROC and {:+.1f} in TNR".format(*gains) in words


def pairs(
    ours: dict[str, Any], other: dict[str, Any]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of two evaluations, each of one out-distribution."""
    found = list(zip(ours["out_distributions"], other["out_distributions"], strict=True))
    assert all(a["out_distribution"] == b["out_distribution"] for a, b in found)
    return found


def test_the_other_words_agree_with_the_records_too() -> None:
    words = (RESULTS / "README.md").read_text()
    rejected = natural_means(THIRTY, "TNR@TPR95")
    for method in ("IsoMax2/ES", "SoftMax/ES", "SoftMax/MPS", "Energy"):
        assert f"{statistics.fmean(rejected[method].values()):.1f} %" in words
    aurocs = natural_means(THIRTY)
    deviations = [statistics.stdev(aurocs[m].values()) for m in ("IsoMax2/ES", "SoftMax/ES")]
    assert "(standard deviation {:.1f} against {:.1f})".format(*deviations) in words
    over_isomax = advantages(natural_means(ONE_CYCLE), "IsoMax2/ES", "IsoMax/ES").split()[0]
    assert f"IsoMax2/ES is {over_isomax} over it there" in words


@pytest.mark.parametrize("run", [STEP, ONE_CYCLE])
def test_odin_and_mahalanobis_cost_three_passes(run: str) -> None:
    costs = json.loads((RESULTS / run / "costs.json").read_text())["costs"]
    passes = {cost["system"]: cost["passes"] for cost in costs}
    assert passes["ODIN"] > 3
    assert passes["Mahalanobis"] > 3
    assert 0.8 < passes["IsoMax2/ES"] < 1.2
