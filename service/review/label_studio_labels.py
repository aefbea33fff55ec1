"""Label Studio's JSON export -> marks of the images in the queue.

Choices of any tag are taken, so that a labelling interface of one's own works too; those of the tag
``junk`` say that an image is of no class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from isoserve.models.errors import InputError
from isoserve.service.review.class_name import CLASS_NAME_RULE, can_name_a_folder
from isoserve.service.review.label_studio_tasks import JUNK, NEW_NAME
from isoserve.service.review.store import ReviewStore
from isoserve.service.review.table import Mark

_Label = tuple[Mark, str | None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the tasks of an export.

    ``labelled``: images by class; ``unlabelled``: without an annotation, or skipped;
    ``disagreeing``: with several classes, of one person or of several, and left as they were;
    ``absent``: no longer in the queue.
    """

    labelled: dict[str, int]
    junk: int
    unlabelled: int
    disagreeing: int
    absent: int


def import_labels(store: ReviewStore, path: Path) -> Imported:
    """Mark the queue's images as the annotations say, all or, on an error, none.

    An image that has a mark gets the new one.

    Raises:
        InputError: no JSON export of Label Studio, not of the tasks that were exported here, or a
            class that cannot name a folder.
    """
    predicted, _ = store.classes()
    said: dict[str, set[_Label]] = {}
    for number, task in enumerate(_tasks(path), 1):
        labels = said.setdefault(_digest(task, number, path), set())
        try:
            names = list(_class_names(task))
        except (AttributeError, TypeError) as error:  # a member of another kind than documented
            raise InputError(
                f"{path}: task {number} has an annotation that is not as Label Studio writes it"
            ) from error
        for name in names:
            if name is not None and not can_name_a_folder(name):
                raise InputError(f"{path}: task {number}: class {name!r:.140} {CLASS_NAME_RULE}")
            labels.add(_label(name, predicted))
    clear = {sha256: next(iter(labels)) for sha256, labels in said.items() if len(labels) == 1}
    here = store.mark_all(clear)
    classes = Counter(clear[sha256][1] for sha256 in here)
    return Imported(
        labelled={name: count for name, count in classes.items() if name is not None},
        junk=classes[None],
        unlabelled=sum(not labels for labels in said.values()),
        disagreeing=sum(len(labels) > 1 for labels in said.values()),
        absent=len(clear) - len(here),
    )


def _label(name: str | None, predicted: set[str]) -> _Label:
    if name is None:
        return "junk", None
    return ("known_class" if name in predicted else "new_class"), name


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}); export from Label Studio as JSON") from error
    if not isinstance(found, list):
        raise InputError(f"{path}: not a list of tasks; export from Label Studio as JSON")
    for number, task in enumerate(found, 1):
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
            raise InputError(
                f"{path}: task {number} has no list of annotations; "
                "export from Label Studio as JSON, not as JSON-MIN"
            )
    return found


def _digest(task: dict[str, Any], number: int, path: Path) -> str:
    data = task.get("data")
    sha256 = data.get("sha256") if isinstance(data, dict) else None
    if not isinstance(sha256, str):
        raise InputError(
            f"{path}: task {number} has no sha256 in its data: it is none of those that "
            "'isoserve review export --format label-studio' writes"
        )
    return sha256


def _class_names(task: dict[str, Any]) -> Iterator[str | None]:
    """What each annotation that was not skipped says: a class, or None for junk."""
    for annotation in task["annotations"]:
        if not annotation.get("was_cancelled"):
            for part in annotation.get("result") or []:
                yield from _chosen(part)


def _chosen(part: dict[str, Any]) -> Iterator[str | None]:
    value, source = part.get("value", {}), part.get("from_name")
    if source == NEW_NAME:
        texts = value.get("text", [])
        for text in [texts] if isinstance(texts, str) else texts:
            if text.strip():
                yield text.strip()
    for choice in value.get("choices", []):
        yield None if source == JUNK else choice.strip()
