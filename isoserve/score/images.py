"""A unit -> its images, one at a time: an id, and the bytes or why there are none."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from isoserve.client.results import Problem
from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES
from isoserve.models.regular_file import read_regular
from isoserve.score.units import Unit

IMAGE_COLUMNS = ("image", "bytes", "content", "jpg", "png", "data")
ID_COLUMNS = ("id", "key", "__key__", "path", "file_name", "filename", "url")
ROWS_AT_ONCE = 64

Body = tuple[str, bytes | Problem]


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are found in a source, and how large they may be."""

    image_column: str = ""
    """Of a Parquet file, of bytes or of {bytes, path}; empty: the first of IMAGE_COLUMNS there."""
    id_column: str = ""
    """Empty: the first of ID_COLUMNS there, or the row's number."""
    max_bytes: int = 20 * 2**20


def images_of(unit: Unit, reading: Reading) -> Iterator[Body]:
    """Every image of the unit, in the source's order.

    Raises:
        InputError: the Parquet file has no such column.
        OSError: the source itself cannot be read; of a single path it is that image's problem.
    """
    if unit.kind == "paths":
        yield from ((path, _read(path, reading.max_bytes)) for path in unit.sources)
    elif unit.kind == "tar":
        yield from _of_tar(unit.sources[0], reading.max_bytes)
    else:
        yield from _of_parquet(unit, reading)


def _read(path: str, limit: int) -> bytes | Problem:
    """An image by its path, or URL.

    Raises:
        Exception: a store failed, which says nothing about the image: its unit is tried again.
    """
    try:
        if "://" not in path:
            return checked_size(read_regular(Path(path), limit + 1), limit)
        with fsspec.open(path, "rb") as file:
            return checked_size(file.read(limit + 1), limit)
    except OSError as error:
        if "://" in path and not isinstance(error, OF_THE_IMAGE):
            raise
        return Problem(0, "unreadable", error.strerror or str(error), "")


OF_THE_IMAGE = (FileNotFoundError, PermissionError, IsADirectoryError)
"""What a store says of one object; everything else is its own state."""


def checked_size(body: bytes, limit: int) -> bytes | Problem:
    """The body, or the problem of one that is empty or over the limit."""
    if not body:
        return Problem(400, "empty", "the file is empty", "")
    if len(body) > limit:
        return Problem(413, "too_many_bytes", f"the file has more than {limit} bytes", "")
    return body


def _of_tar(url: str, limit: int) -> Iterator[Body]:
    """Members that are images; read as a stream, so that a remote tar is not fetched whole."""
    with fsspec.open(url, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if not member.isfile() or PurePosixPath(member.name).suffix.lower() not in SUFFIXES:
                continue
            opened = archive.extractfile(member)
            body = b"" if opened is None else opened.read(limit + 1)
            yield f"{url}/{member.name}", checked_size(body, limit)


def _of_parquet(unit: Unit, reading: Reading) -> Iterator[Body]:
    import pyarrow.parquet as parquet

    (url,) = unit.sources
    with fsspec.open(url, "rb") as file:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        image = _column(reading.image_column, IMAGE_COLUMNS, names, url)
        if not image:
            raise InputError(
                f"'{url}' has no column of images: its columns are {', '.join(names)}; "
                "name one by --image-column"
            )
        identity = _column(reading.id_column, ID_COLUMNS, names, url)
        groups = unit.row_groups or [*range(table.metadata.num_row_groups)]
        first = sum(table.metadata.row_group(g).num_rows for g in range(min(groups, default=0)))
        row = first
        columns = [image, identity] if identity and identity != image else [image]
        batches = table.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=columns)
        for batch in batches:
            ids = batch.column(identity).to_pylist() if identity else None
            for place, value in enumerate(batch.column(image).to_pylist()):
                name = f"{url}#{row}" if ids is None else str(ids[place])
                yield name, _of_cell(value, reading.max_bytes)
                row += 1


def _column(given: str, usual: tuple[str, ...], names: list[str], url: str) -> str:
    if given:
        if given not in names:
            raise InputError(f"'{url}' has no column '{given}': it has {', '.join(names)}")
        return given
    return next((name for name in usual if name in names), "")


def _of_cell(value: Any, limit: int) -> bytes | Problem:
    """Bytes, or Hugging Face's {bytes, path}."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return _read(value, limit)
    if not isinstance(value, bytes):
        return Problem(400, "empty", "the row has no image", "")
    return checked_size(value, limit)
