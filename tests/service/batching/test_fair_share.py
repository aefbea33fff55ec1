"""The share that each of several models has of a queue."""

from __future__ import annotations

import pytest

from isoserve.service.batching import fair_share
from isoserve.service.batching.fair_share import ACTIVE_SECONDS, FairShare


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fair_share, "perf_counter", clock)
    return clock


def test_a_model_alone_has_all_of_the_queue(clock: Clock) -> None:  # noqa: ARG001
    fair = FairShare()
    fair.queued("a", 40)
    assert fair.counted("a") == 40
    assert fair.counted("a", 2) == 42
    assert not fair.several


def test_the_others_backlog_is_not_counted_and_the_own_counts_for_all(clock: Clock) -> None:
    fair = FairShare()
    fair.queued("a", 40)
    assert fair.counted("b") == 0
    fair.queued("b", 3)
    assert fair.several
    assert (fair.counted("a"), fair.counted("b")) == (80, 6)
    fair.taken("b", 3, 0.1)
    clock.now += ACTIVE_SECONDS + 0.1
    fair.queued("a", 1)
    assert fair.counted("a") == 41


def test_the_turn_is_of_the_model_that_was_served_least(clock: Clock) -> None:  # noqa: ARG001
    fair = FairShare()
    fair.queued("a", 100)
    for _ in range(5):
        fair.taken("a", 1, 0.1)
    fair.queued("b", 10)
    turns = []
    for _ in range(6):
        name = min("ab", key=fair.turn)
        turns.append(name)
        fair.taken(name, 1, 0.1)
    # What a was served while it was alone is not held against it.
    assert sorted(turns[:2]) == sorted(turns[2:4]) == sorted(turns[4:]) == ["a", "b"]
