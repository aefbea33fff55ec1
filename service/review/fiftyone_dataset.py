"""Unlabelled images -> a dataset that FiftyOne opens, what the model knows least first.

The layout is FiftyOne's ``FiftyOneImageClassificationDataset``: ``data/`` and ``labels.json``, in
which each image's label is a prediction with its confidence and, as attributes, its verdict.
FiftyOne takes samples in the order of their names, so these begin with the rank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Row

from isoserve.models.errors import InputError
from isoserve.models.image_files.header import read_header
from isoserve.service.review.store import ReviewStore
from isoserve.service.review.table import taken_at
from isoserve.service.review.whole_folder import whole_folder

LABELS, DATA = "labels.json", "data"


def export_dataset(store: ReviewStore, target: Path, classes: tuple[str, ...] = ()) -> int:
    """Write ``target/labels.json`` and ``target/data/RANK-SHA256.EXT``.

    Args:
        target: a folder that is not there yet, or empty. It appears whole or not at all.
        classes: of the model, besides those that the queue's images were predicted as.

    Returns:
        The number of images.

    Raises:
        InputError: the target has something in it or cannot be written, or nothing waits for a
            label.
    """
    predicted, _ = store.classes()
    known = [*dict.fromkeys((*classes, *sorted(predicted)))]
    index = {name: number for number, name in enumerate(known)}
    labels: dict[str, dict[str, Any]] = {}
    with whole_folder(target) as folder:
        (folder / DATA).mkdir()
        for row, image in store.unmarked():
            name = f"{len(labels):07d}-{row.sha256}"
            kind = read_header(image).format.lower()
            (folder / DATA / f"{name}.{kind}").write_bytes(image)
            labels[name] = _label(row, index[row.label])
        if not labels:
            raise InputError("no image waits for a label; nothing to export")
        document = {"classes": known, "labels": labels}
        (folder / LABELS).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return len(labels)


def _label(row: Row[Any], index: int) -> dict[str, Any]:
    return {
        "label": index,
        "confidence": row.probability,
        "attributes": {
            "p_value": row.p_value,
            "entropic_score": row.entropic_score,
            "rejected": row.rejected,
            "model": f"{row.model}/{row.version}",
            "taken": taken_at(row),
        },
    }
