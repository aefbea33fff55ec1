"""A SQLite file that is full or removed: what is lost is known, and writing goes on afterwards."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from service.review.store import KeptImage, ReviewStore


def image(number: int, size: int = 3000) -> KeptImage:
    content = bytes([number]) * size
    return KeptImage(
        sha256=hashlib.sha256(content).hexdigest(),
        taken=datetime.now(UTC),
        model="m",
        version=1,
        label="a",
        probability=0.5,
        p_value=0.01,
        entropic_score=-1.0,
        rejected=True,
        image=content,
    )


def test_a_file_that_was_removed_is_begun_anew_and_not_written_to_without_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "review.db"
    store = ReviewStore(f"sqlite:///{path}")
    assert store.keep([image(1)]) == 1
    path.unlink()
    assert store.keep([image(2)]) == 1
    assert "was removed" in caplog.text
    assert path.stat().st_mode & 0o077 == 0
    store.close()
    again = ReviewStore(f"sqlite:///{path}")
    assert again.counts()["none"] == 1
    again.close()


def test_a_full_disk_loses_nothing_that_was_kept_and_writing_goes_on_with_room(
    tmp_path: Path,
) -> None:
    store = ReviewStore(f"sqlite:///{tmp_path / 'review.db'}")
    store.keep([image(1)])
    limit(store, pages=1)
    # SQLite's own "database or disk is full", which is what a full disk gives.
    with pytest.raises(OperationalError, match="full"):
        store.keep([image(2, size=100_000)])
    assert store.counts()["none"] == 1
    limit(store, pages=1_000_000)
    assert store.keep([image(2, size=100_000)]) == 1
    assert store.counts()["none"] == 2
    store.close()


def limit(store: ReviewStore, pages: int) -> None:
    """Let the file grow to so many pages at most; one that is larger already may not grow."""

    def set_limit(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}").close()

    event.listen(store._engine, "connect", set_limit)
    store._engine.dispose()
