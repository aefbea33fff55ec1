"""A table of labels beside a folder of images: ``path,label``, and ``split`` where it has one."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.text import pluralize, printable
from isoserve.training import layout
from isoserve.training.data import LabelledFiles, LabelledImages, check_classes_read, read_labelled
from isoserve.training.named_sets import Split


class Row(NamedTuple):
    """One image of a table."""

    source: Path | bytes
    name: str
    """For messages."""
    label: str
    split: str
    """As in :data:`isoserve.training.layout.NAMES`' values; empty where the table has none."""


def load_label_table(table: Path, root: Path, split: Split, spec: InputSpec) -> LabelledImages:
    """Load a split of the images that a CSV file names; all of them where it names no splits.

    Args:
        table: UTF-8, a header line with ``path`` and ``label``, and ``split`` if it likes.
        root: the folder that relative paths begin in.

    Raises:
        InputError: no such table, a column or a field that is missing, a path that is given two
            labels, fewer than two classes, or a class without a readable image.
    """
    return load_rows(_read(table, root), printable(root.resolve().name), split, spec)


def load_rows(rows: Sequence[Row], name: str, split: Split, spec: InputSpec) -> LabelledImages:
    """The rows of a split, with those of ``validation`` to calibrate on beside the training's.

    Raises:
        InputError: no rows of that split, fewer than two classes, or a class without a readable
            image.
    """
    classes = tuple(sorted({row.label for row in rows}))
    if len(classes) < 2:
        raise InputError(
            f"{name} has {pluralize(len(classes), 'class', 'classes')}; a classifier needs at "
            "least two"
        )
    if any(row.split for row in rows):
        wanted = [row for row in rows if row.split == split]
        if not wanted:
            there = ", ".join(sorted({row.split or "none" for row in rows}))
            raise InputError(f"{name} has no {split} images; its splits are {there}")
    else:
        wanted = list(rows)
    images = _load(wanted, classes, name, spec)
    held_out = [row for row in rows if row.split == "validation"]
    if split == "train" and held_out:
        images = images.calibrated_by(_load(held_out, classes, f"{name}, validation", spec))
    return images


def _load(
    rows: Sequence[Row], classes: tuple[str, ...], name: str, spec: InputSpec
) -> LabelledImages:
    index = {label: number for number, label in enumerate(classes)}
    labels = np.array([index[row.label] for row in rows], dtype=np.int64)
    names = [row.name for row in rows]
    files = LabelledFiles([row.source for row in rows], names, labels, classes)
    images = read_labelled(files, spec, name)
    check_classes_read(images, name)
    return images


def _read(table: Path, root: Path) -> list[Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            for column in ("path", "label"):
                if column not in columns:
                    raise InputError(
                        f"{table} has no column {column!r} but {', '.join(columns) or 'none'}: its "
                        "first line must name path and label"
                    )
            reader.fieldnames = columns
            return _checked(reader, table, root)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the labels in {table}: {error}") from error


def _checked(reader: csv.DictReader[str], table: Path, root: Path) -> list[Row]:
    rows: list[Row] = []
    seen: dict[Path, str] = {}
    for line in reader:
        where = f"{table}, line {reader.line_num}"
        path, label = (line.get("path") or "").strip(), (line.get("label") or "").strip()
        if not path or not label:
            raise InputError(f"{where}: a path and a label are needed, not {path!r} and {label!r}")
        split = (line.get("split") or "").strip()
        if split and split.lower() not in layout.NAMES:
            raise InputError(f"{where}: split is {split!r}; it must be train, val or test")
        file = root / path
        if seen.setdefault(file, label) != label:
            raise InputError(f"{where}: {path!r} is {label!r} here and {seen[file]!r} before")
        rows.append(Row(file, str(file), label, layout.NAMES[split.lower()] if split else ""))
    return rows
