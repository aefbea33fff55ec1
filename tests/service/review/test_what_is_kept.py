"""The queue keeps files as they came, and a clock that jumps deletes none."""

from __future__ import annotations

import io
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running_server import StartServer
from tiny_model import write_tiny_model

from isoserve.service.review.steady_clock import PROBATION_SECONDS, SteadyClock

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.service.review.store import Bounds, Filter, KeptImage, ReviewStore

DAY = 86_400.0
PLENTY = Bounds(1000, 2**30, 30)
TOKEN = "review-token-0123456789"


class Clocks:
    """A system's clock that anybody sets, and one that nobody does."""

    def __init__(self) -> None:
        self.wall, self.steady = datetime.now(UTC).timestamp(), 5000.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.steady)


def kept(content: bytes, age_days: float = 0.0) -> KeptImage:
    return KeptImage(
        sha256=content.hex().rjust(64, "0"),
        taken=datetime.now(UTC) - timedelta(days=age_days),
        model="m",
        version=1,
        label="cat",
        probability=0.5,
        p_value=0.01,
        entropic_score=-1.0,
        rejected=True,
        image=content,
    )


def opened(path: Path, clocks: Clocks) -> ReviewStore:
    return ReviewStore(f"sqlite:///{path / 'review.db'}", clocks.clock())


def test_a_large_photograph_is_kept_as_it_came(start_server: StartServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "models" / "tiny" / "1" / "model.onnx")
    (tmp_path / "tokens").write_text(TOKEN + "\n")
    database = tmp_path / "review.db"
    server = start_server(
        tmp_path / "models",
        *("--review-database", f"sqlite:///{database}", "--alpha", "0.999"),
        *("--review-token-file", str(tmp_path / "tokens")),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (800, 700, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    photograph = file.getvalue()
    assert len(photograph) > 2**18  # and more than 250,000 pixels
    assert server.post("/v1/predict", content=photograph).status_code == 200
    files = [("files", photograph)]
    assert server.post("/v1/predict/batch", files=files).status_code == 200

    def stored() -> list[bytes]:
        with sqlite3.connect(database) as connection:
            return [row[0] for row in connection.execute("SELECT image FROM isoserve_review")]

    server.wait_until(lambda: bool(stored()))
    assert stored() == [photograph]


@pytest.mark.parametrize("days", [40, -40])
def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, days: int) -> None:
    clocks = Clocks()
    store = opened(tmp_path, clocks)
    store.keep([kept(b"labelled", 20), kept(b"new")])
    store.mark(store.listed(Filter(), None, 10)[-1].id, "new_class", "x")
    clocks.wall += days * DAY
    for _ in range(10):
        clocks.passes(60)
        assert store.prune(PLENTY) == 0
    clocks.wall -= days * DAY
    assert store.prune(PLENTY) == 0
    assert store.counts() == {"none": 1, "known_class": 0, "new_class": 1, "junk": 0}


def test_nor_does_one_that_is_wrong_from_the_start(tmp_path: Path) -> None:
    clocks = Clocks()
    opened(tmp_path, clocks).keep([kept(b"labelled", 20), kept(b"new")])
    clocks.wall += 40 * DAY
    later = opened(tmp_path, clocks)
    assert later.prune(PLENTY) == 0
    clocks.passes(3600)
    assert later.prune(PLENTY) == 0
    clocks.wall -= 40 * DAY
    assert later.prune(PLENTY) == 0
    assert sum(later.counts().values()) == 2


def test_a_jump_that_lasts_is_believed(tmp_path: Path) -> None:
    clocks = Clocks()
    store = opened(tmp_path, clocks)
    store.keep([kept(b"old", 20), kept(b"new")])
    clocks.wall += 15 * DAY
    assert store.prune(PLENTY) == 0
    clocks.passes(PROBATION_SECONDS + 60)
    assert store.prune(PLENTY) == 1


def test_days_that_pass_delete_as_ever(tmp_path: Path) -> None:
    clocks = Clocks()
    store = opened(tmp_path, clocks)
    store.keep([kept(b"old", 29), kept(b"new")])
    store.mark(store.listed(Filter(), None, 10)[-1].id, "junk", None)
    for _ in range(48):
        clocks.passes(3600)
        store.prune(PLENTY)
    assert sum(store.counts().values()) == 1
    clocks.passes(40 * DAY)
    store.prune(PLENTY)
    clocks.passes(2 * DAY)
    store.prune(PLENTY)
    assert sum(store.counts().values()) == 0
