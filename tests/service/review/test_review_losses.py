"""A SQLite file that is full, removed or replaced: what is lost is known, and writing goes on."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from isoserve.service.review.store import KeptImage, ReviewStore


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


def test_a_file_put_in_its_place_is_used_as_it_is_and_the_old_one_stays_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, backup, aside = (tmp_path / name for name in ("review.db", "backup.db", "aside.db"))
    store = ReviewStore(f"sqlite:///{path}")
    store.keep([image(1), image(2)])
    with sqlite3.connect(path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    store.keep([image(number) for number in range(3, 40)])
    path.rename(aside)
    backup.rename(path)
    assert store.keep([image(50)]) == 1
    assert "was replaced" in caplog.text
    assert store.counts()["none"] == 3
    store.close()
    assert images_in(path) == 3
    assert images_in(aside) == 39


def test_a_file_that_goes_in_the_middle_of_a_write_is_not_said_to_have_kept_anything(
    tmp_path: Path,
) -> None:
    path = tmp_path / "review.db"
    store = ReviewStore(f"sqlite:///{path}")
    store.keep([image(1)])

    def take_away(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT"):
            path.unlink(missing_ok=True)

    event.listen(store._engine, "before_cursor_execute", take_away)
    with pytest.raises(OperationalError, match="readonly"):
        store.keep([image(2)])
    event.remove(store._engine, "before_cursor_execute", take_away)
    assert store.keep([image(2)]) == 1
    store.close()
    assert images_in(path) == 1


def images_in(path: Path) -> int:
    """How many the file has, after SQLite has found nothing wrong with it."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found: int = connection.execute("SELECT count(*) FROM isoserve_review").fetchone()[0]
    finally:
        connection.close()
    return found


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
