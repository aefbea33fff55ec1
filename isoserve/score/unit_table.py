"""The units of a plan, in Parquet files of their own: of a billion images there are a million.

They are written once and read one file after the other, so neither planning nor scoring ever holds
them all.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import fsspec.core

from isoserve.models.errors import InputError
from isoserve.score.units import Unit

FOLDER = "_units"
MOST_UNITS, MOST_SOURCES = 10_000, 100_000
"""Of one file: at 100 bytes a path that is 10 MB while it is read."""


class UnitTable:
    """The folder of these files in a run's output.

    Args:
        url: of the output.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/{FOLDER}"
        self._filesystem, self._root = fsspec.core.url_to_fs(self._url)

    def write(self, units: Iterable[Unit]) -> list[int]:
        """Write all units, in place of what a planning that was cut off left.

        Returns:
            The first unit of each file, and the number of units at the end.

        Raises:
            InputError: they cannot be written.
        """
        firsts = [0]
        try:
            if self._filesystem.exists(self._root):
                self._filesystem.rm(self._root, recursive=True)
            for some in _files(units):
                if firsts == [0]:
                    self._filesystem.makedirs(self._root, exist_ok=True)
                self._filesystem.pipe_file(self._path(firsts[-1]), _encoded(some))
                firsts.append(firsts[-1] + len(some))
        except OSError as error:
            raise InputError(f"cannot write into '{self._url}': {error}") from error
        return firsts

    def read(self, firsts: list[int], done: set[int]) -> Iterator[Unit]:
        """The units that are not done, in their order.

        Args:
            firsts: as :meth:`write` gave it.

        Raises:
            InputError: they cannot be read.
        """
        for first, end in pairwise(firsts):
            if all(index in done for index in range(first, end)):
                continue
            try:
                units = _decoded(self._filesystem.cat_file(self._path(first)))
            except (OSError, ValueError, KeyError) as error:
                raise InputError(f"cannot read '{self._url}': {error}") from error
            yield from (unit for unit in units if unit.index not in done)

    def _path(self, first: int) -> str:
        return f"{self._root}/{first:07d}.parquet"


def _files(units: Iterable[Unit]) -> Iterator[list[Unit]]:
    some: list[Unit] = []
    sources = 0
    for unit in units:
        if some and (len(some) >= MOST_UNITS or sources + len(unit.sources) > MOST_SOURCES):
            yield some
            some, sources = [], 0
        some.append(unit)
        sources += len(unit.sources)
    if some:
        yield some


def _encoded(units: list[Unit]) -> bytes:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    buffer = io.BytesIO()
    table = arrow.Table.from_pylist([unit.model_dump() for unit in units], schema=_schema())
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _decoded(data: bytes) -> list[Unit]:
    import pyarrow.parquet as parquet

    return [Unit(**row) for row in parquet.read_table(io.BytesIO(data)).to_pylist()]


def _schema() -> Any:
    import pyarrow as arrow

    return arrow.schema(
        [
            ("index", arrow.int64()),
            ("kind", arrow.string()),
            ("sources", arrow.list_(arrow.string())),
            ("row_groups", arrow.list_(arrow.int32())),
            ("images", arrow.int64()),
        ]
    )
