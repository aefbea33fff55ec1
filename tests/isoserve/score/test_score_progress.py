"""What a run says of itself where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from isoserve.score.counts import Counts
from isoserve.score.progress import LINE_SECONDS, ScoreProgress


def lines_of(images: int | None, ends: list[float], *, former: int = 0) -> list[str]:
    """Units of 100 images, of which 7 are rejected and 1 fails, that end at these seconds."""
    out, now = io.StringIO(), [0.0]
    counts = [Counts(images=100 * former, by_class=[], rejected_by_class=[])]
    with ScoreProgress(
        lambda: counts[0], images, (20, former), Console(file=out), lambda: now[0]
    ) as progress:
        for end in ends:
            now[0] = end
            counts[0] += Counts(images=100, rejected=7, failed=1, by_class=[], rejected_by_class=[])
            progress.advance()
    return out.getvalue().splitlines()


def test_a_line_at_most_every_ten_seconds_has_rate_rejections_and_the_time_left() -> None:
    assert LINE_SECONDS == 10
    assert lines_of(2000, [4, 8, 12, 16, 23]) == [
        "scored 300 of 2,000 images, 3 of 20 units: 25 images/s, 21 rejected, 3 failed, "
        "1 min 08 s left",
        "scored 500 of 2,000 images, 5 of 20 units: 22 images/s, 35 rejected, 5 failed, "
        "1 min 09 s left",
    ]


def test_what_an_earlier_run_did_is_counted_but_not_as_pace() -> None:
    (line,) = lines_of(None, [20], former=10)
    assert line.startswith("scored 1,100 images, 11 of 20 units: 5 images/s")
    assert line.endswith("3 min 00 s left")


def test_long_runs_are_told_in_hours() -> None:
    (line,) = lines_of(None, [3600])
    assert line.endswith("19 h 00 min left")
