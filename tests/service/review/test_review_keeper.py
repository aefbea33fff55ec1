"""What is chosen, that nothing waits for the database, and that losses are counted and end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.service.batching.job import Job
from isoserve.service.inference.outputs import Outputs
from isoserve.service.review.keeper import Keeper, Policy
from isoserve.service.review.store import Bounds, KeptImage, Unwritable

BOUNDS = Bounds(1000, 2**30, 30)
MODEL = SimpleNamespace(name="m", version=3, labels=["cat", "dog"])


class MemoryStore:
    """Keeps in a list; fails while ``away``; holds a write while ``gate`` is closed."""

    def __init__(self) -> None:
        self.images: list[KeptImage] = []
        self.away: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.attempts = 0

    def keep(self, images: Sequence[KeptImage]) -> int:
        self.attempts += 1
        self.gate.wait()
        if self.away:
            raise self.away
        self.images += images
        return len(images)

    def prune(self, bounds: Bounds) -> int:
        assert bounds == BOUNDS
        return 0


class Setup:
    def __init__(self, **policy: Any) -> None:
        self.store = MemoryStore()
        self.counter = Counter("x", "x", ("outcome",), registry=CollectorRegistry())
        draws = policy.pop("draws", None)
        draw = {"draw": iter(draws).__next__} if draws else {}
        self.keeper = Keeper(
            self.store,
            Policy(0.05, bounds=BOUNDS, **{"sample": 0.0, **policy}),
            self.counter,
            **draw,
        )

    def count(self, outcome: str) -> float:
        return float(self.counter.labels(outcome)._value.get())

    def observe(self, p_values: Sequence[float], sources: Sequence[Any] | None = None) -> None:
        sources = sources or [f"image {i}".encode() for i in range(len(p_values))]
        jobs = [
            Job(SimpleNamespace(model=MODEL), source, lambda *_: None)  # type: ignore[arg-type]
            for source in sources
        ]
        pixels = np.zeros((len(jobs), 8, 8, 3), dtype=np.uint8)
        self.keeper.observe(jobs, pixels, outputs(p_values))


def outputs(p_values: Sequence[float]) -> Outputs:
    n = len(p_values)
    p = np.array(p_values, dtype=np.float32)
    probabilities = np.tile(np.array([[0.2, 0.8]], dtype=np.float32), (n, 1))
    scores = -np.ones(n, dtype=np.float32)
    return Outputs(probabilities, scores, scores, p, p, p, probabilities)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_rejected_are_kept_with_their_verdict_and_the_others_are_not() -> None:
    setup = Setup()
    setup.observe([0.01, 0.5, 0.05, float("nan"), 0.9])
    setup.keeper.close()
    assert [image.image for image in setup.store.images] == [b"image 0", b"image 2", b"image 3"]
    first = setup.store.images[0]
    assert (first.model, first.version, first.label, first.rejected) == ("m", 3, "dog", True)
    assert (first.p_value, first.probability) == pytest.approx((0.01, 0.8))
    assert setup.count("kept") == 3


def test_a_sample_of_the_accepted_is_kept_too() -> None:
    setup = Setup(sample=0.1, draws=[0.05, 0.1, 0.9])
    setup.observe([0.5, 0.6, 0.01, 0.7])
    setup.keeper.close()
    assert [(image.image, image.rejected) for image in setup.store.images] == [
        (b"image 0", False),
        (b"image 2", True),
    ]


def test_pixels_are_kept_as_a_png_that_holds_them_exactly() -> None:
    import io

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    setup = Setup()
    setup.observe([0.01], [pixels])
    setup.keeper.close()
    assert (np.asarray(Image.open(io.BytesIO(setup.store.images[0].image))) == pixels).all()


def test_a_database_that_hangs_holds_nobody_up_and_the_rest_is_counted_as_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup(waiting_images=5)
    setup.store.gate.clear()
    setup.observe([0.01])
    wait_until(lambda: setup.store.attempts == 1)
    for _ in range(10):
        setup.observe([0.01])  # returns, though the writer hangs
    assert setup.count("lost") == 6
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    setup.store.gate.set()
    wait_until(lambda: len(setup.store.images) == 5)
    wait_until(lambda: "not kept: 6 images" in caplog.text)
    setup.observe([0.01])
    wait_until(lambda: len(setup.store.images) == 6)
    setup.keeper.close()
    assert (setup.count("kept"), setup.count("lost")) == (6, 6)


def test_the_queue_is_bounded_in_bytes() -> None:
    setup = Setup(waiting_bytes=100)
    setup.store.gate.clear()
    setup.observe([0.01] * 3, [b"x" * 60] * 3)
    assert setup.count("lost") == 2
    setup.store.gate.set()
    setup.keeper.close()
    assert len(setup.store.images) == 1


def test_what_waited_is_written_when_the_database_is_back() -> None:
    setup = Setup()
    setup.store.away = OSError("away")
    setup.observe([0.01, 0.02])
    wait_until(lambda: setup.store.attempts >= 1)
    assert setup.store.images == []
    setup.store.away = None
    wait_until(lambda: len(setup.store.images) == 2)
    setup.keeper.close()
    assert setup.count("lost") == 0


def test_values_that_no_database_takes_do_not_block_those_behind_them() -> None:
    setup = Setup()
    setup.store.away = Unwritable("a NUL in a name")
    setup.observe([0.01])
    wait_until(lambda: setup.count("lost") == 1)
    setup.store.away = None
    setup.observe([0.01])
    setup.keeper.close()
    assert len(setup.store.images) == 1


def test_closing_gives_up_on_a_database_that_stays_away() -> None:
    setup = Setup()
    setup.store.away = OSError("away")
    setup.observe([0.01])
    wait_until(lambda: setup.store.attempts >= 1)
    setup.keeper.close()
    assert "review" not in {thread.name for thread in threading.enumerate()}


def test_a_locked_file_loses_nothing_that_the_queue_can_hold(tmp_path: Path) -> None:
    import sqlite3

    from isoserve.service.review.store import Filter, ReviewStore

    store = ReviewStore(f"sqlite:///{tmp_path / 'review.db'}")
    store.counts()
    setup = Setup()
    keeper = Keeper(store, Policy(0.05, 0.0, BOUNDS), setup.counter)
    lock = sqlite3.connect(tmp_path / "review.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    setup.keeper, spare = keeper, setup.keeper
    setup.observe([0.01, 0.01])
    time.sleep(0.3)
    lock.rollback()
    lock.close()
    wait_until(lambda: len(store.listed(Filter(), None, 10)) == 2)
    keeper.close()
    spare.close()
    store.close()
