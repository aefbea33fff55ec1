"""Names and phrases that were given up for the field's own stay given up."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "deploy", "docs", "isoserve", "models", "service", "tests", "training")
KINDS = {".py", ".md", ".toml", ".yml", ".yaml", ".html", ".js", ".css"}

RETIRED = (
    *("Told", "UNTOLD_ROUTES", "tell_skipped", "Door", "Exchanges", "Seat", "Outbox", "Tally"),
    *("COURTESY_SECONDS", "_GuardedProtocol", "end_silent", "time_is_up", "PASSED_OVER"),
    *("unless_gone", "Settled", "ToAnswer", "Served", "let_in", "lets_in", "afresh"),
    *("LargeImages", "room_for_connections", "count_alone", "is_from_elsewhere", "short_way"),
    *("Circumstances", "Haste", "ShadowLane", "PredictRoutes.ask", "Keeper.consider"),
    *("the long way", "the short way", "line a request", "waits for company"),
    *("their quarrel over the interpreter", "that is dear", "genuine", "Genuine", "is no image"),
)
PATTERN = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, RETIRED)) + r")(?!\w)")


def test_no_retired_name_is_left() -> None:
    left = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in KINDS or path == Path(__file__) or "vendor" in path.parts:
                continue
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if found := PATTERN.search(line):
                    left.append(f"{path.relative_to(ROOT)}:{number}: {found[0]}")
    assert not left, "\n".join(left)


def test_a_retired_name_would_be_found() -> None:
    assert PATTERN.search("class Door(Protocol):")
    assert PATTERN.search("a request that goes the long way.")
    assert not PATTERN.search("class DoorBell: observe(along the long wayside)")
