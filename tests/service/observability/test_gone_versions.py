"""What a scrape still shows of a version that has left."""

from __future__ import annotations

import re

from tiny_model import TinyModel, tiny_model

from isoserve.service.inference.model import load_model
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.model_metrics import KEPT_VERSIONS


def versions_in(text: str) -> set[int]:
    return {int(found) for found in re.findall(r'version="([0-9]+)"', text)}


def test_the_counts_of_the_last_versions_that_left_stay_and_older_ones_go() -> None:
    metrics = Metrics()
    model = load_model("m", 1, tiny_model(TinyModel()).SerializeToString(), 1, 1)
    for version in range(1, 41):
        model.version = version
        metrics.models.model_serves(model, 0.05)
        if version < 40:
            metrics.models.model_left(model)
    text = metrics.exposition().decode()
    assert versions_in(text) == {*range(40 - KEPT_VERSIONS, 41)}
    model.version = 30
    metrics.models.model_serves(model, 0.05)  # a rollback: it is not the next to be forgotten
    model.version = 40
    metrics.models.model_left(model)
    assert 30 in versions_in(metrics.exposition().decode())
