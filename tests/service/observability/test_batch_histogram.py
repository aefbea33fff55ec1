"""A batch's values at once are counted as one by one."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from isoserve.service.observability.batch_histogram import BatchHistogram

BOUNDS = (-1.0, 0.0, 0.1, 0.25, 1.0)


def text(kind: type[Histogram], values: list[float], at_once: bool) -> list[str]:
    """Its series, but the one of when it was made."""
    registry = CollectorRegistry()
    histogram = kind("x", "x", ("of",), buckets=BOUNDS, registry=registry).labels("a")
    if isinstance(histogram, BatchHistogram) and at_once:
        histogram.observe_all(values)
    else:
        for value in values:
            histogram.observe(value)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@pytest.mark.parametrize("values", [[], [0.1], [*BOUNDS, -5.0, 7.0, math.inf, 0.1]])
def test_it_counts_what_prometheus_own_histogram_counts(values: list[float]) -> None:
    assert text(BatchHistogram, values, True) == text(Histogram, values, False)


def test_random_values_fall_where_prometheus_puts_them() -> None:
    values = np.round(np.random.default_rng(0).normal(0, 1, 500), 2).tolist()
    assert text(BatchHistogram, values, True) == text(Histogram, values, False)


def test_a_value_that_is_no_number_counts_as_the_lowest() -> None:
    found = text(BatchHistogram, [math.nan, 0.2], True)
    assert 'x_bucket{le="-1.0",of="a"} 1.0' in found
    assert 'x_bucket{le="+Inf",of="a"} 2.0' in found


def test_what_is_no_number_is_in_no_sum() -> None:
    registry = CollectorRegistry()
    histogram = BatchHistogram("x", "x", buckets=(0.1, 1.0), registry=registry)
    for values in ([math.nan], [0.5, math.nan, 0.25], [math.inf, -math.inf], [0.125]):
        histogram.observe_all(values)
    assert b"x_sum 0.875" in generate_latest(registry)


def test_threads_lose_no_value() -> None:
    registry = CollectorRegistry()
    histogram = BatchHistogram("x", "x", buckets=BOUNDS, registry=registry)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            pool.submit(histogram.observe_all, [0.05, 0.5, 2.0])
    assert b'x_bucket{le="+Inf"} 600.0' in generate_latest(registry)
