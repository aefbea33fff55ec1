"""What docs/results says of a run is what the run's own files say."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

RUN = Path(__file__).parents[2] / "docs/results/cifar10-jpeg-10-epochs"
NATURAL = ("tinyimagenet", "svhn", "cifar100", "scenes", "textures")


def mean_auroc(records: list[dict[str, Any]], method: str) -> float:
    found = {
        record["out_data"]: record["value"]
        for record in records
        if (record["method"], record["metric"]) == (method, "AUROC")
    }
    return statistics.fmean(found[name] for name in NATURAL)


def test_the_words_on_the_systems_agree_with_the_records() -> None:
    records = json.loads((RUN / "results.json").read_text())["records"]
    methods = {record["method"] for record in records if record["metric"] == "AUROC"}
    means = {method: mean_auroc(records, method) for method in methods}
    assert means["IsoMax2/ES"] < means["SoftMax/ES"] - 1
    assert abs(means["IsoMax2/ES"] - means["SoftMax/MPS"]) < 1
    assert max(means, key=means.__getitem__) == "KNN/IsoMax2"
    assert sorted(means.values())[-2] == means["KNN/SoftMax"]


def test_odin_and_mahalanobis_cost_three_passes() -> None:
    costs = json.loads((RUN / "costs.json").read_text())["costs"]
    passes = {cost["system"]: cost["passes"] for cost in costs}
    assert passes["ODIN"] > 3
    assert passes["Mahalanobis"] > 3
    assert 0.8 < passes["IsoMax2/ES"] < 1.2
