"""The table of kept images, and the marks that it holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
)

Mark = Literal["known_class", "new_class", "junk"]
"""What a person says an image is: of a class the model has, of one it should learn, of none."""

MARKS: tuple[Mark, ...] = ("known_class", "new_class", "junk")

METADATA = MetaData()
IMAGES = Table(
    "isoserve_review",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("taken", DateTime(timezone=True), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("label", String, nullable=False),
    Column("probability", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("entropic_score", Float, nullable=False),
    Column("rejected", Boolean, nullable=False),
    Column("mark", String(16)),
    Column("class_name", String(128)),
    Column("marked", DateTime(timezone=True)),
    Column("size", BigInteger, nullable=False),
    Column("image", LargeBinary, nullable=False),
    Index("isoserve_review_mark", "mark", "id"),
)
DESCRIBED = [column for column in IMAGES.columns if column.name != "image"]
"""All columns but the image."""


def taken_at(row: Row[Any]) -> str:
    """When the row's image came, as ISO 8601; SQLite keeps no time zone, so it is UTC there."""
    taken: datetime = row.taken
    return (taken if taken.tzinfo else taken.replace(tzinfo=UTC)).isoformat()
