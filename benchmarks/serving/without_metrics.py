"""Isoserve that measures nothing: python -m benchmarks.serving.without_metrics serve MODEL ...

The same program with every counter, histogram and drift window made to do nothing, so that
another process can be compared with it. No option of the product does this: a server whose
rejections nobody counts is not a server for images it does not know. What remains of the metrics is
reading the clock, which the queue's admission needs too.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Histogram

from isoserve.cli import main
from isoserve.service.observability.batch_histogram import BatchHistogram
from isoserve.service.observability.metrics import Metrics
from isoserve.service.observability.model_metrics import ModelSeries


def _nothing(*given: Any, **named: Any) -> None:
    """In the place of a method that counts."""


def switch_off() -> None:
    """Make everything that counts do nothing, in this process."""
    Counter.inc = _nothing  # type: ignore[method-assign]
    Histogram.observe = _nothing  # type: ignore[method-assign]
    BatchHistogram.observe_one = _nothing  # type: ignore[method-assign]
    BatchHistogram.observe_all = _nothing  # type: ignore[method-assign]
    Metrics.request_answered = _nothing  # type: ignore[method-assign]
    ModelSeries.count = _nothing  # type: ignore[method-assign]


if __name__ == "__main__":
    switch_off()
    main()
