"""The images of the scoring run, as a folder, as Parquet files and as tars, some of them broken."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES

IN_A_FILE = 2_000
"""Rows of a Parquet file, and members of a tar."""

IN_A_ROW_GROUP = 500


def bodies(folder: Path, count: int, broken: int) -> dict[str, bytes]:
    """Name -> bytes of as many images, ``broken`` of them cut short or no image at all.

    Raises:
        InputError: the folder has too few.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(paths) < count:
        raise InputError(f"{folder} has {len(paths)} images; the run takes {count}")
    step = len(paths) / count
    found = {
        f"{number:06d}{path.suffix.lower()}": path.read_bytes()
        for number, path in enumerate(paths[int(i * step)] for i in range(count))
    }
    for number, name in enumerate(
        itertools.islice(found, count // broken // 2, None, count // broken)
    ):
        found[name] = found[name][: len(found[name]) // 2] if number % 2 else b"not an image"
    return found


def write_sources(images: dict[str, bytes], root: Path) -> list[str]:
    """A third each; the sources as ``isoserve score`` takes them."""
    names = list(images)
    third = -(-len(names) // 3)
    in_folder, in_parquet, in_tars = (names[i : i + third] for i in range(0, len(names), third))
    write_folder({name: images[name] for name in in_folder}, root / "folder")
    (root / "parquet").mkdir()
    for number, chunk in enumerate(_chunks(in_parquet)):
        table = arrow.table({"id": chunk, "image": [images[name] for name in chunk]})
        path = root / "parquet" / f"{number:04d}.parquet"
        parquet.write_table(table, path, row_group_size=IN_A_ROW_GROUP)
    (root / "tars").mkdir()
    for number, chunk in enumerate(_chunks(in_tars)):
        with tarfile.open(root / "tars" / f"{number:04d}.tar", "w") as archive:
            for name in chunk:
                member = tarfile.TarInfo(name)
                member.size = len(images[name])
                archive.addfile(member, io.BytesIO(images[name]))
    return [str(root / "folder"), str(root / "parquet/*.parquet"), str(root / "tars/*.tar")]


def write_folder(images: dict[str, bytes], folder: Path) -> None:
    """A file an image."""
    folder.mkdir(parents=True)
    for name, body in images.items():
        (folder / name).write_bytes(body)


def _chunks(names: list[str]) -> list[list[str]]:
    return [names[start : start + IN_A_FILE] for start in range(0, len(names), IN_A_FILE)]
