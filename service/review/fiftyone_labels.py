"""FiftyOne's ``labels.json`` -> what it says of the images in the queue.

A label is a class, its number in ``classes``, or an object with either as ``label``; a list of
these is an image's several labels. The class ``junk`` says that an image is of no class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoserve.models.errors import InputError
from isoserve.service.review.labels import ClassNames

JUNK = "junk"
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def said_of(document: dict[str, Any], path: Path) -> Iterator[ClassNames]:
    """Of each sample.

    Raises:
        InputError: not as FiftyOne writes it, or not of the images that were exported here.
    """
    classes, labels = document.get("classes"), document.get("labels")
    if not isinstance(labels, dict) or not isinstance(classes, list | None):
        raise InputError(
            f"{path}: has no labels: export from FiftyOne as FiftyOneImageClassificationDataset"
        )
    for name, label in labels.items():
        found = _DIGEST.search(name)
        if found is None:
            raise InputError(
                f"{path}: {name!r:.140} is none of the images that "
                "'isoserve review export --format fiftyone' writes: their names have a digest"
            )
        given = label if isinstance(label, list) else [label]
        names = [_name(each, classes or [], name, path) for each in given if each is not None]
        yield ClassNames(found[0], [None if each == JUNK else each for each in names], repr(name))


def _name(label: Any, classes: list[Any], sample: str, path: Path) -> str:
    if isinstance(label, dict):
        label = label.get("label")
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        label = classes[label]
    if not isinstance(label, str):
        raise InputError(
            f"{path}: {sample!r:.140} has the label {label!r:.80}; it must be a class, or the "
            f"number of one of the {len(classes)} classes"
        )
    return label.strip()
