"""What is scored at once: row groups of a Parquet file, a WebDataset tar, or some paths.

A unit is what is redone after a death, so it is small; and what has a file of its own in the
output, so it is not tiny.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import fsspec
import fsspec.core
from pydantic import BaseModel, ConfigDict

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES

Kind = Literal["parquet", "tar", "paths"]
PARQUET, TAR, LIST = (".parquet", ".pq"), (".tar", ".tar.gz", ".tgz"), (".txt",)


class Unit(BaseModel):
    """A part of the source that one worker scores into one file."""

    model_config = ConfigDict(frozen=True)

    index: int
    kind: Kind
    sources: list[str]
    """One Parquet file or tar, or the images themselves."""
    row_groups: list[int] = []
    """Of the Parquet file."""
    images: int | None = None
    """How many, where that is known beforehand."""

    @property
    def file_name(self) -> str:
        """Of its output."""
        return f"part-{self.index:07d}.parquet"


def plan_units(sources: Sequence[str], unit_images: int) -> list[Unit]:
    """Split the sources into units, in their order.

    Args:
        sources: paths, globs or URLs that fsspec knows: ``.parquet`` files, WebDataset ``.tar``
            files, ``.txt`` lists of paths, folders of images.
        unit_images: the most images of a unit, but for a row group or a tar that has more.

    Raises:
        InputError: a source that is not there, that cannot be read, or is of no such kind.
    """
    units: list[Unit] = []
    for source in sources:
        try:
            for unit in _units_of(source, unit_images):
                units.append(unit.model_copy(update={"index": len(units)}))
        except InputError:
            raise
        except (ImportError, OSError, ValueError) as error:
            raise InputError(f"cannot read '{source}': {error}") from error
    return units


def _units_of(source: str, unit_images: int) -> Iterator[Unit]:
    filesystem, root = fsspec.core.url_to_fs(source)
    found = sorted(filesystem.glob(root)) if any(c in root for c in "*?[") else [root]
    if not found or not filesystem.exists(found[0]):
        raise InputError(f"no file or folder '{source}'")
    for path in found:
        url = filesystem.unstrip_protocol(path) if "://" in source else path
        if filesystem.isdir(path):
            images = sorted(p for p in filesystem.find(path) if _is_image(p))
            if not images:
                raise InputError(
                    f"no images in the folder '{url}': looked for {', '.join(SUFFIXES)}"
                )
            yield from _of_paths(
                (filesystem.unstrip_protocol(p) if "://" in source else p for p in images),
                unit_images,
            )
        elif path.endswith(PARQUET):
            with filesystem.open(path, "rb") as file:
                yield from _of_parquet(url, file, unit_images)
        elif path.endswith(TAR):
            yield Unit(index=0, kind="tar", sources=[url])
        elif path.endswith(LIST):
            with filesystem.open(path, "r", encoding="utf-8") as file:
                lines = (line.strip() for line in file)
                yield from _of_paths((line for line in lines if line), unit_images)
        elif _is_image(path):
            yield Unit(index=0, kind="paths", sources=[url], images=1)
        else:
            raise InputError(
                f"'{url}' is neither a folder nor .parquet, .tar or .txt: give one of these"
            )


def _of_paths(paths: Iterator[str], unit_images: int) -> Iterator[Unit]:
    while chunk := list(islice(paths, unit_images)):
        yield Unit(index=0, kind="paths", sources=chunk, images=len(chunk))


def _of_parquet(url: str, file: Any, unit_images: int) -> Iterator[Unit]:
    """Neighbouring row groups go together while they are small."""
    import pyarrow.parquet as parquet

    metadata = parquet.ParquetFile(file).metadata
    groups: list[int] = []
    images = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if groups and images + rows > unit_images:
            yield Unit(index=0, kind="parquet", sources=[url], row_groups=groups, images=images)
            groups, images = [], 0
        groups, images = [*groups, group], images + rows
    if groups:
        yield Unit(index=0, kind="parquet", sources=[url], row_groups=groups, images=images)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in SUFFIXES and not any(
        part.startswith((".", "@")) for part in Path(path).parts
    )
