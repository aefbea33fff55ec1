"""Labelled images in Parquet files, and data sets of the Hugging Face hub (extra ``datasets``)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training import layout
from isoserve.training.data import LabelledImages
from isoserve.training.label_table import Row, load_rows
from isoserve.training.named_sets import Split

HUB = "hf:"
"""A source that begins with this is a data set of the hub, or a folder that ``datasets`` saved."""

_IMAGE_COLUMNS = ("image", "img", "picture", "bytes")
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


def is_parquet(source: Path) -> bool:
    """Whether it is a Parquet file, or a folder that holds some, at its top or in ``data``."""
    return bool(_files(source))


def load_parquet(source: Path, split: Split, spec: InputSpec) -> LabelledImages:
    """Load images as the hub keeps them: a column of file bytes and one of labels.

    The image column is binary or a struct with ``bytes``; labels are strings, or numbers whose
    names the file's Hugging Face metadata hold. Files called ``train-...``, ``test-...`` and the
    like, or in folders of such names, are splits.

    Raises:
        InputError: the extra is missing, no such columns, or as :func:`load_rows`.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError('Parquet needs the extra: pip install "isoserve[datasets]"') from error
    rows: list[Row] = []
    for file in _files(source):
        try:
            schema = parquet.read_schema(file)
            image = _column(schema.names, _IMAGE_COLUMNS, file)
            label = _column(schema.names, _LABEL_COLUMNS, file)
            names = _class_names(schema.metadata, label)
            table = parquet.read_table(file, columns=[image, label])
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"cannot read {file}: {error}") from error
        pairs = zip(table[image].to_pylist(), table[label].to_pylist(), strict=True)
        rows += _rows(pairs, names, str(file), _split_of(file, source))
    return load_rows(rows, printable(source.resolve().stem), split, spec)


def load_hub(name: str, split: Split, spec: InputSpec) -> LabelledImages:
    """Load a data set of the hub, or a folder that ``Dataset.save_to_disk`` wrote.

    Raises:
        InputError: the extra is missing, no such data set, or as :func:`load_rows`.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f'{HUB}{name} needs the extra: pip install "isoserve[datasets]"'
        ) from error
    try:
        found = (
            datasets.load_from_disk(name) if Path(name).is_dir() else datasets.load_dataset(name)
        )
    except Exception as error:  # of its own kinds, its file systems' and its network's
        first = str(error).partition("\n")[0]
        raise InputError(f"cannot load the data set {name!r}: {first}") from error
    parts = found.items() if isinstance(found, dict) else [("", found)]
    rows: list[Row] = []
    for part, table in parts:
        image = _column(table.column_names, _IMAGE_COLUMNS, name)
        label = _column(table.column_names, _LABEL_COLUMNS, name)
        names = getattr(table.features[label], "names", None)
        files = table.cast_column(image, datasets.Image(decode=False))
        pairs = ((entry[image], entry[label]) for entry in files)
        rows += _rows(pairs, names, f"{name} {part}".strip(), layout.NAMES.get(part.lower(), ""))
    return load_rows(rows, printable(Path(name).name), split, spec)


def _rows(
    pairs: Iterable[tuple[Any, Any]], names: list[str] | None, where: str, split: str
) -> list[Row]:
    rows = []
    for number, (image, label) in enumerate(pairs):
        body = image.get("bytes") if isinstance(image, dict) else image
        path = image.get("path") if isinstance(image, dict) else None
        if not isinstance(body, bytes) and path:
            body = Path(path)
        if not isinstance(body, bytes | Path) or label is None:
            raise InputError(f"{where}, row {number}: no bytes of an image, or no label")
        name = names[label] if names is not None and isinstance(label, int) else str(label)
        rows.append(Row(body, f"{where}, row {number}", name, split))
    return rows


def _column(there: Iterable[str], wanted: tuple[str, ...], where: object) -> str:
    there = list(there)
    for name in wanted:
        if name in there:
            return name
    raise InputError(
        f"{where} has the columns {', '.join(there)}; one of {', '.join(wanted)} is needed"
    )


def _class_names(metadata: dict[bytes, bytes] | None, label: str) -> list[str] | None:
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return list(names.values()) if isinstance(names, dict) else list(names)


def _files(source: Path) -> list[Path]:
    if source.suffix.lower() == ".parquet" and source.is_file():
        return [source]
    if not source.is_dir():
        return []
    patterns = ("*.parquet", "data/*.parquet", *(f"{name}/*.parquet" for name in layout.NAMES))
    return sorted({file for pattern in patterns for file in source.glob(pattern)})


def _split_of(file: Path, source: Path) -> str:
    if file == source:
        return ""
    first_word = file.stem.lower().replace("_", "-").split("-")[0]
    return layout.NAMES.get(first_word, layout.NAMES.get(file.parent.name.lower(), ""))
