"""What the run of the starving client posts, and what it makes of the measurements."""

from __future__ import annotations

import pytest

from benchmarks.serving.images import costly_webp
from benchmarks.serving.open_loop import Outcome
from benchmarks.serving.starving import markdown, summary
from isoserve.models.card import InputSpec
from isoserve.service.batching.image_cost import cost_of
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import check_header


def test_the_other_client_posts_a_few_bytes_that_are_let_in_and_cost_much() -> None:
    body = costly_webp()
    assert len(body) < 100
    cost = cost_of(check_header(body, ImageLimits()), InputSpec(height=32, width=32))
    assert cost.is_large
    assert cost.seconds > 0.3


def outcome(milliseconds: float, refused: int = 0, lost: int = 0) -> Outcome:
    made = Outcome(offered=100 + refused + lost, lost=lost)
    made.statuses.update({200: 100, 429: refused})
    made.answers = {200: [(0.0, milliseconds / 1000)] * 100}
    return made


def test_rounds_are_taken_together() -> None:
    both = outcome(10.0)
    both.add(outcome(30.0, refused=3, lost=2))
    found = summary(both)
    assert (found["answered"], found["refused"], found["other"]) == (200, 3, 2)
    assert found["p50_ms"] == pytest.approx(30)
    assert both.quantile_ms(200, 0.49) == pytest.approx(10)


def test_the_page_shows_how_many_times_as_long_it_takes_beside_the_other() -> None:
    found = {
        "alone": summary(outcome(10.0)),
        "beside": summary(outcome(25.0, refused=7)),
        "other_client": {"answered": 4, "refused": 500, "errors": 1},
    }
    none = {**found, "beside": {**found["beside"], "answered": 0}}
    page = markdown(
        {
            "command": "c",
            "model": "m",
            "connections": 16,
            "pause_ms": 50,
            "rounds": 1,
            "seconds": 2,
            "servers": {"isoserve": {"small image": found}, "other": {"small image": none}},
        }
    )
    assert (
        "| isoserve | small image | 10.0 / 10.0 | 25.0 / 25.0 | 2.50 / 2.50 | 100, 100 | 0, 7 "
        "| 0, 0 | 4, 500, 1 |"
    ) in page
    assert "| – / – | 100, 0 |" in page
