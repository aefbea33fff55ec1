"""What the runs of latency and of start make of their measurements."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.serving import latency, start
from benchmarks.serving.open_loop import Outcome
from benchmarks.serving.servers import ISOSERVE, Running


def test_latency_is_of_answers_alone_and_refusals_are_told_from_what_was_lost() -> None:
    outcome = Outcome(offered=120, late=[0.001] * 120)
    outcome.statuses.update({200: 100, 429: 15, 500: 2})
    outcome.answers = {200: [(0.0, n / 1000) for n in range(100)], 429: [(0.0, 9.0)] * 15}
    found = latency.summary(outcome)
    assert (found["p50_ms"], found["p90_ms"], found["p99_ms"]) == pytest.approx((50, 90, 99))
    assert (found["refused"], found["other"]) == (15, 5)
    loads = {"0.5": found, "0.8": {**found, "p50_ms": 123.4}}
    page = latency.markdown(
        {
            "command": "c",
            "model": "m",
            "reference_per_second": 500.0,
            "servers": {"isoserve": loads},
        }
    )
    assert "| 50 % | isoserve | 50.0 | 90.0 | 99.0 | 15 | 5 | 1.0 |" in page
    assert "| 80 % | isoserve | 123.4 |" in page


def test_of_starts_the_median_counts_and_the_extremes_are_shown() -> None:
    starts = [
        {
            "seconds": seconds,
            "processor_seconds": 2.0,
            "memory_mb": 100.0,
            "memory_under_load_mb": 110.0,
        }
        for seconds in (1.3, 1.2, 2.9)
    ]
    found = start.summary(starts)
    page = start.markdown(
        {"command": "c", "model": "m", "rounds": 3, "servers": {"isoserve": found}}
    )
    assert "| isoserve | 1.30 (1.20 to 2.90) | 2.0 | 100 | 110 |" in page


def test_the_processor_time_of_a_server_holds_that_of_its_children_which_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    with subprocess.Popen(
        [sys.executable, "-c", parent + "print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = Running(ISOSERVE, 0, process).processor_seconds()
        process.kill()
    assert 0.3 <= found < 10
