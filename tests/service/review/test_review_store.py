"""What is kept, listed, marked and deleted; on SQLite, and on PostgreSQL where it is installed."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from isoserve.models.errors import InputError
from isoserve.service.review import open_store

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.service.review.store import Bounds, Filter, KeptImage, ReviewStore

PLENTY = Bounds(1000, 2**30, 30)


def kept(
    content: bytes, age_days: float = 0, label: str = "cat", rejected: bool = True
) -> KeptImage:
    return KeptImage(
        sha256=hashlib.sha256(content).hexdigest(),
        taken=datetime.now(UTC) - timedelta(days=age_days),
        model="m",
        version=1,
        label=label,
        probability=0.5,
        p_value=0.01,
        entropic_score=-2.0,
        rejected=rejected,
        image=content,
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ReviewStore]:
    if request.param == "postgresql":
        store = ReviewStore(request.getfixturevalue("postgresql").new_database())
    else:
        store = ReviewStore(f"sqlite:///{tmp_path / 'review.db'}")
    yield store
    store.close()


def contents(store: ReviewStore, **chosen: Any) -> list[bytes | None]:
    return [store.image(row.id) for row in store.listed(Filter(**chosen), None, 100)]


def test_images_come_back_as_they_were_newest_first(store: ReviewStore) -> None:
    assert store.keep([kept(b"one"), kept(b"two")]) == 2
    assert store.keep([kept(b"three\x00\xff")]) == 1
    assert contents(store) == [b"three\x00\xff", b"two", b"one"]
    row = store.listed(Filter(), None, 1)[0]
    assert (row.label, row.p_value, row.rejected, row.mark, row.size) == (
        "cat",
        0.01,
        True,
        None,
        7,
    )


def test_the_same_bytes_are_kept_once(store: ReviewStore) -> None:
    assert store.keep([kept(b"same"), kept(b"same")]) == 1
    assert store.keep([kept(b"same"), kept(b"other")]) == 1
    assert len(contents(store)) == 2


def test_pages_follow_each_other_without_gap_or_double(store: ReviewStore) -> None:
    store.keep([kept(bytes([i])) for i in range(10)])
    seen: list[int] = []
    before = None
    while rows := store.listed(Filter(), before, 3):
        seen += [row.id for row in rows]
        before = rows[-1].id
    assert len(seen) == len(set(seen)) == 10
    assert seen == sorted(seen, reverse=True)


def test_filters_choose(store: ReviewStore) -> None:
    store.keep([kept(b"a"), kept(b"b", label="dog"), kept(b"c", rejected=False)])
    first = store.listed(Filter(), None, 10)[-1].id
    assert store.mark(first, "junk", None)
    assert contents(store, mark="junk") == [b"a"]
    assert contents(store, mark="none") == [b"c", b"b"]
    assert contents(store, rejected=False) == [b"c"]
    assert contents(store, label="dog") == [b"b"]
    assert contents(store, model="other") == []
    assert store.counts() == {"none": 2, "known_class": 0, "new_class": 0, "junk": 1}


def test_a_mark_can_be_changed_and_taken_back(store: ReviewStore) -> None:
    store.keep([kept(b"a")])
    number = store.listed(Filter(), None, 1)[0].id
    assert store.mark(number, "new_class", "tractor")
    assert [(name, image) for name, _, image in store.labelled()] == [("tractor", b"a")]
    assert store.mark(number, None, None)
    assert list(store.labelled()) == []
    assert store.listed(Filter(), None, 1)[0].marked is None
    assert not store.mark(number + 1, "junk", None)


def test_past_the_count_the_oldest_without_a_mark_go_first(store: ReviewStore) -> None:
    store.keep([kept(bytes([i])) for i in range(6)])
    oldest = store.listed(Filter(), None, 10)[-1].id
    store.mark(oldest, "junk", None)
    assert store.prune(Bounds(3, 2**30, 30)) == 3
    assert contents(store) == [b"\x05", b"\x04", b"\x00"]
    assert store.prune(Bounds(3, 2**30, 30)) == 0


def test_past_the_bytes_the_oldest_go(store: ReviewStore) -> None:
    store.keep([kept(bytes([i]) * 100) for i in range(5)])
    assert store.prune(Bounds(1000, 250, 30)) == 3
    assert len(contents(store)) == 2
    assert store.prune(Bounds(1000, 1, 30)) == 2


def test_past_their_days_images_go_marked_or_not(store: ReviewStore) -> None:
    store.keep([kept(b"old", age_days=31), kept(b"older", age_days=90), kept(b"new", age_days=29)])
    store.mark(store.listed(Filter(), None, 10)[-1].id, "new_class", "x")
    assert store.prune(PLENTY) == 2
    assert contents(store) == [b"new"]


def test_more_than_one_delete_at_once_is_deleted(store: ReviewStore) -> None:
    store.keep([kept(i.to_bytes(2, "big")) for i in range(1203)])
    assert store.prune(Bounds(2, 2**30, 30)) == 1201
    assert len(contents(store)) == 2


def test_several_that_open_a_new_database_at_once_all_can(tmp_path: Path) -> None:
    stores = [ReviewStore(f"sqlite:///{tmp_path / 'review.db'}") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda store: store.keep([kept(str(id(store)).encode())]), stores)
        assert sum(done) == 8
    assert stores[0].counts()["none"] == 8
    for store in stores:
        store.close()


def test_the_file_is_private_and_deleted_images_are_not_left_in_it(tmp_path: Path) -> None:
    path = tmp_path / "review.db"
    store = ReviewStore(f"sqlite:///{path}")
    store.keep([kept(b"SECRET-PICTURE" * 50), kept(b"another")])
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    store.prune(Bounds(1, 2**30, 30))
    store.close()
    assert b"SECRET-PICTURE" not in path.read_bytes()


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, by far")
    with pytest.raises(InputError, match=r"notes.txt' is there and no SQLite database"):
        open_store(f"sqlite:///{path}")
    assert path.read_text() == "not a database, by far"


@pytest.mark.parametrize(
    "url", ["nonsense", "nosuch://x/y", "sqlite://", "sqlite:////nonexistent/folder/x.db"]
)
def test_a_url_that_opens_nothing_is_refused_in_words(url: str) -> None:
    with pytest.raises(InputError, match="database"):
        open_store(url)


def test_a_refusal_does_not_repeat_the_password() -> None:
    with pytest.raises(InputError) as caught:
        open_store("nosuch://user:s3cret@host/name")
    assert "s3cret" not in str(caught.value)
