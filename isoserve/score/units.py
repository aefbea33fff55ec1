"""What is scored at once: row groups of a Parquet file, a WebDataset tar, or some paths.

A unit is what is redone after a death, so it is small; and what has a file of its own in the
output, so it is not tiny.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import fsspec
import fsspec.core
from pydantic import BaseModel, ConfigDict

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES, image_files, is_foreign

Kind = Literal["parquet", "tar", "paths"]
PARQUET, TAR, LIST = (".parquet", ".pq"), (".tar", ".tar.gz", ".tgz"), (".txt",)

FILES_AT_ONCE = 32
"""Files that are read side by side: a store answers each in tens of milliseconds."""

UNREADABLE = -1


class Unit(BaseModel):
    """A part of the source that one worker scores into one file."""

    model_config = ConfigDict(frozen=True)

    index: int
    kind: Kind
    sources: list[str]
    """One Parquet file or tar, or the images themselves."""
    row_groups: list[int] = []
    """Of the Parquet file; none where its end could not be read, which fails when it is scored."""
    images: int | None = None
    """How many, where that is known beforehand."""

    @property
    def file_name(self) -> str:
        """Of its output."""
        return part_name(self.index)


def part_name(index: int) -> str:
    """The file name of this unit's output."""
    return f"part-{index:07d}.parquet"


def plan_units(sources: Sequence[str], unit_images: int) -> Iterator[Unit]:
    """Split the sources into units, in their order; never more than a folder's names in memory.

    Args:
        sources: paths, globs or URLs that fsspec knows: ``.parquet`` files, WebDataset ``.tar``
            files, ``.txt`` lists of paths, folders of images.
        unit_images: the most images of a unit, but for a row group or a tar that has more.

    Raises:
        InputError: a source that is not there, that cannot be read, or is of no such kind.
    """
    index = 0
    for source in sources:
        try:
            for unit in _units_of(source, unit_images):
                yield unit.model_copy(update={"index": index})
                index += 1
        except InputError:
            raise
        except (ImportError, OSError, ValueError) as error:
            raise InputError(f"cannot read '{source}': {error}") from error


def _units_of(source: str, unit_images: int) -> Iterator[Unit]:
    filesystem, root = fsspec.core.url_to_fs(source)
    is_pattern = any(c in root for c in "*?[") and not filesystem.exists(root)
    found = sorted(filesystem.glob(root)) if is_pattern else [root]
    if not found or not filesystem.exists(found[0]):
        raise InputError(f"no file or folder '{source}'")

    def url_of(path: str) -> str:
        return str(filesystem.unstrip_protocol(path)) if "://" in source else path

    for is_parquet, paths in groupby(found, lambda path: path.endswith(PARQUET)):
        files = [*paths]
        if is_parquet and not filesystem.isdir(files[0]):
            yield from _of_parquet(filesystem, files, url_of, unit_images)
        else:
            for path in files:
                yield from _of_other(filesystem, path, url_of, unit_images)


def _of_other(
    filesystem: Any, path: str, url_of: Callable[[str], str], unit_images: int
) -> Iterator[Unit]:
    url = url_of(path)
    if filesystem.isdir(path):
        here = map(str, image_files(Path(path)))
        images = map(url_of, _walk(filesystem, path)) if "://" in url else here
        yield from _of_paths(
            images,
            unit_images,
            f"no images in the folder '{url}': looked for {', '.join(SUFFIXES)}",
        )
    elif path.endswith(TAR):
        yield Unit(index=0, kind="tar", sources=[url])
    elif path.endswith(LIST):
        # What Windows writes begins with a mark of the byte order and ends its lines with two.
        with filesystem.open(path, "r", encoding="utf-8-sig") as file:
            lines = (line.rstrip("\r\n") for line in file)
            yield from _of_paths(
                (line for line in lines if line.strip()), unit_images, f"no paths in '{url}'"
            )
    elif _is_image(path):
        yield Unit(index=0, kind="paths", sources=[url], images=1)
    else:
        raise InputError(
            f"'{url}' is neither a folder nor .parquet, .tar or .txt: give one of these"
        )


def _of_paths(paths: Iterable[str], unit_images: int, if_none: str) -> Iterator[Unit]:
    paths, is_empty = iter(paths), True
    while chunk := [*islice(paths, unit_images)]:
        yield Unit(index=0, kind="paths", sources=chunk, images=len(chunk))
        is_empty = False
    if is_empty:
        raise InputError(if_none)


def _of_parquet(
    filesystem: Any, paths: list[str], url_of: Callable[[str], str], unit_images: int
) -> Iterator[Unit]:
    """Neighbouring row groups of one file go together while they are small."""

    def rows_of(path: str) -> list[int]:
        return _rows_of_groups(filesystem, path)

    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        for start in range(0, len(paths), FILES_AT_ONCE):
            some = paths[start : start + FILES_AT_ONCE]
            for path, rows in zip(some, threads.map(rows_of, some), strict=True):
                yield from _of_row_groups(url_of(path), rows, unit_images)


def _rows_of_groups(filesystem: Any, path: str) -> list[int]:
    """Of each row group, as the file's end says; [-1] where it has none that can be read."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        with filesystem.open(path, "rb") as file:
            metadata = parquet.ParquetFile(file).metadata
            return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except arrow.ArrowInvalid:
        return [UNREADABLE]


def _of_row_groups(url: str, rows: list[int], unit_images: int) -> Iterator[Unit]:
    if rows == [UNREADABLE]:  # one torn file of a million is named at the end, the others scored
        yield Unit(index=0, kind="parquet", sources=[url])
        return
    groups: list[int] = []
    images = 0
    for group, size in enumerate(rows):
        if groups and images + size > unit_images:
            yield Unit(index=0, kind="parquet", sources=[url], row_groups=groups, images=images)
            groups, images = [], 0
        groups, images = [*groups, group], images + size
    if groups:
        yield Unit(index=0, kind="parquet", sources=[url], row_groups=groups, images=images)


def _walk(filesystem: Any, folder: str) -> Iterator[str]:
    """Images below a folder of a store; each folder's in order, before its folders'."""
    entries = sorted(filesystem.ls(folder, detail=True), key=lambda entry: entry["name"])
    for entry in entries:
        if entry["type"] == "file" and _is_image(entry["name"]):
            yield entry["name"]
    for entry in entries:
        name = entry["name"].rstrip("/")
        if entry["type"] == "directory" and not is_foreign(PurePosixPath(name).name):
            yield from _walk(filesystem, name)


def _is_image(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in SUFFIXES and not is_foreign(name.name)
