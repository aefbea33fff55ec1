"""Reviewed and unreviewed images in a database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    Row,
    Select,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
)

from isoserve.models.errors import InputError
from isoserve.service.review.private_file import PrivateFile
from isoserve.service.review.steady_clock import AgeLimit, SteadyClock
from isoserve.service.review.table import DESCRIBED, IMAGES, MARKS, METADATA, Mark

BUSY_SECONDS = 2
DELETE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image to be kept, with the verdict it got."""

    sha256: str
    taken: datetime
    model: str
    version: int
    label: str
    probability: float
    p_value: float
    entropic_score: float
    rejected: bool
    image: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that is kept; past it the oldest go, those without a mark first."""

    images: int
    bytes: int
    days: float


@dataclass(frozen=True, slots=True)
class Filter:
    """Which images to list; None means all."""

    mark: Mark | Literal["none"] | None = None
    rejected: bool | None = None
    model: str | None = None
    label: str | None = None


class Unwritable(Exception):
    """The database is there and will never take these values."""


class ReviewStore:
    """The table of kept images. Every method may raise what the database raises.

    Raises:
        InputError: the URL names no database that could be opened.
    """

    def __init__(self, url: str, clock: SteadyClock | None = None) -> None:
        self._age = AgeLimit(clock or SteadyClock())
        try:
            parsed = make_url(url)
            self._engine = create_engine(parsed, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise InputError(
                f"'{_without_password(url)}' is not a database that can be opened ({error}); "
                "give a URL like sqlite:///review.db or postgresql+psycopg://user@host/name"
            ) from error
        self._file: PrivateFile | None = None
        if parsed.get_backend_name() == "sqlite":
            if parsed.database in (None, "", ":memory:"):
                raise InputError("the review database must be a file: sqlite:///review.db")
            event.listen(self._engine, "connect", _prepare_sqlite)
            self._file = PrivateFile(str(parsed.database))
            self._check_file(str(parsed.database))
        self._ready = False
        self._creating = threading.Lock()

    def keep(self, images: Sequence[KeptImage]) -> int:
        """Store those that are not here yet, in one transaction; the number stored.

        Raises:
            Unwritable: trying again is of no use.
        """
        self._create_table()
        try:
            try:
                return self._insert(images)
            except IntegrityError:  # another process stored one of them meanwhile
                return self._insert(images)
        except DataError as error:
            raise Unwritable(str(error.orig)) from error

    def prune(self, bounds: Bounds) -> int:
        """Delete what is past the bounds; the number deleted."""
        self._create_table()
        with self._engine.begin() as connection:
            newest = connection.execute(select(func.max(IMAGES.c.taken))).scalar_one()
            oldest, gone = self._age.oldest(newest, bounds.days), 0
            if oldest is not None:
                gone = connection.execute(delete(IMAGES).where(IMAGES.c.taken < oldest)).rowcount
            count, size = connection.execute(
                select(func.count(), func.coalesce(func.sum(IMAGES.c.size), 0))
            ).one()
            while count > bounds.images or size > bounds.bytes:
                doomed = []
                order = select(IMAGES.c.id, IMAGES.c.size).order_by(
                    IMAGES.c.mark.is_not(None), IMAGES.c.id
                )
                for row in connection.execute(order.limit(DELETE_AT_ONCE)):
                    if count <= bounds.images and size <= bounds.bytes:
                        break
                    doomed.append(row.id)
                    count, size = count - 1, size - row.size
                if not doomed:
                    break
                connection.execute(delete(IMAGES).where(IMAGES.c.id.in_(doomed)))
                gone += len(doomed)
        return gone

    def listed(self, chosen: Filter, before: int | None, limit: int) -> list[Row[Any]]:
        """Rows without their image, newest first, older than the id ``before``."""
        self._create_table()
        query = _filtered(select(*DESCRIBED), chosen).order_by(IMAGES.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(IMAGES.c.id < before)
        with self._engine.connect() as connection:
            return list(connection.execute(query))

    def counts(self) -> dict[str, int]:
        """How many images carry each mark; those without one under ``none``."""
        self._create_table()
        query = select(IMAGES.c.mark, func.count()).group_by(IMAGES.c.mark)
        with self._engine.connect() as connection:
            found = {mark or "none": count for mark, count in connection.execute(query)}
        return {name: found.get(name, 0) for name in ("none", *MARKS)}

    def image(self, number: int) -> bytes | None:
        """The bytes as they were sent; None where there is no such image."""
        self._create_table()
        with self._engine.connect() as connection:
            return connection.execute(
                select(IMAGES.c.image).where(IMAGES.c.id == number)
            ).scalar_one_or_none()

    def mark(self, number: int, mark: Mark | None, class_name: str | None) -> bool:
        """Set or, with None, take back a person's mark; False where there is no such image."""
        self._create_table()
        values = {
            "mark": mark,
            "class_name": class_name,
            "marked": datetime.now(UTC) if mark else None,
        }
        with self._engine.begin() as connection:
            done = connection.execute(update(IMAGES).where(IMAGES.c.id == number).values(**values))
        return done.rowcount == 1

    def unmarked(self) -> Iterator[tuple[Row[Any], bytes]]:
        """Rows and images that nobody has marked, what the model knows least first."""
        self._create_table()
        query = _filtered(select(*DESCRIBED), Filter(mark="none"))
        query = query.order_by(IMAGES.c.p_value, IMAGES.c.probability, IMAGES.c.id)
        yield from self._with_images(query)

    def classes(self) -> tuple[set[str], set[str]]:
        """The classes that images were predicted as, and those that persons gave as new ones."""
        self._create_table()
        new = select(IMAGES.c.class_name).where(IMAGES.c.mark == "new_class")
        with self._engine.connect() as connection:
            predicted = set(connection.execute(select(IMAGES.c.label).distinct()).scalars())
            return predicted, set(connection.execute(new.distinct()).scalars())

    def mark_all(self, marks: Mapping[str, tuple[Mark, str | None]]) -> set[str]:
        """Set marks and class names by sha256, all or none; the digests that are here."""
        self._create_table()
        now = datetime.now(UTC)
        here = set()
        with self._engine.begin() as connection:
            for sha256, (mark, class_name) in marks.items():
                values = {"mark": mark, "class_name": class_name, "marked": now}
                change = update(IMAGES).where(IMAGES.c.sha256 == sha256).values(**values)
                if connection.execute(change).rowcount:
                    here.add(sha256)
        return here

    def labelled(self) -> Iterator[tuple[str, str, bytes]]:
        """(class name, sha256, image) of each image marked as of a known or new class."""
        self._create_table()
        query = select(IMAGES.c.id, IMAGES.c.class_name, IMAGES.c.sha256).where(
            IMAGES.c.mark.in_(("known_class", "new_class"))
        )
        for row, image in self._with_images(query.order_by(IMAGES.c.id)):
            yield row.class_name, row.sha256, image

    def _with_images(self, query: Select[Any]) -> Iterator[tuple[Row[Any], bytes]]:
        """Each row that the query finds and its image, one at a time."""
        with self._engine.connect() as connection:
            # All rows at once: SQLite lets nobody write while somebody reads.
            found = connection.execute(query).all()
        for row in found:
            image = self.image(row.id)
            if image is not None:  # else past its age meanwhile
                yield row, image

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def _check_file(self, path: str) -> None:
        try:
            self._engine.connect().close()
        except OperationalError:
            pass  # such as a lock: it may be gone at the first use
        except DatabaseError as error:
            raise InputError(
                f"'{path}' is there and no SQLite database; name another file"
            ) from error

    def _insert(self, images: Sequence[KeptImage]) -> int:
        with self._engine.begin() as connection:
            digests = {image.sha256 for image in images}
            known = set(
                connection.execute(
                    select(IMAGES.c.sha256).where(IMAGES.c.sha256.in_(digests))
                ).scalars()
            )
            new = {image.sha256: image for image in images if image.sha256 not in known}
            if new:
                connection.execute(insert(IMAGES), [_row(image) for image in new.values()])
        return len(new)

    def _create_table(self) -> None:
        """At the first use that finds the database there; several processes may try at once."""
        with self._creating:
            if self._file is not None and self._file.has_changed():
                # Open connections are those of the file that was there before.
                self._engine.dispose()
                self._ready = False
            if self._ready:
                return
            try:
                METADATA.create_all(self._engine, checkfirst=True)
            except DBAPIError:
                if not inspect(self._engine).has_table(IMAGES.name):
                    raise
            self._ready = True


def _row(image: KeptImage) -> dict[str, Any]:
    fields = ("sha256", "taken", "model", "version", "label", "probability", "p_value")
    return {
        **{name: getattr(image, name) for name in (*fields, "entropic_score", "rejected", "image")},
        "size": len(image.image),
    }


def _filtered(query: Select[Any], chosen: Filter) -> Select[Any]:
    if chosen.mark == "none":
        query = query.where(IMAGES.c.mark.is_(None))
    elif chosen.mark is not None:
        query = query.where(IMAGES.c.mark == chosen.mark)
    if chosen.rejected is not None:
        query = query.where(IMAGES.c.rejected == chosen.rejected)
    for name in ("model", "label"):
        value = getattr(chosen, name)
        if value is not None:
            query = query.where(IMAGES.c[name] == value)
    return query


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # Not write-ahead: its log stays beside the file, and SQLite would play it into another file put
    # in this one's place. With a journal, SQLite refuses to write once the file has lost its name.
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=TRUNCATE",
        "secure_delete=ON",  # deleted images are overwritten
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at else url
