"""Label Studio's JSON export -> what it says of the images in the queue.

Choices of any tag are taken, so that a labelling interface of one's own works too; those of the tag
``junk`` say that an image is of no class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoserve.models.errors import InputError
from isoserve.service.review.label_studio_tasks import JUNK, NEW_NAME
from isoserve.service.review.labels import ClassNames


def said_of(tasks: list[Any], path: Path) -> Iterator[ClassNames]:
    """Of each task.

    Raises:
        InputError: not as Label Studio exports it, or not of the tasks that were exported here.
    """
    for number, task in enumerate(tasks, 1):
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list):
            raise InputError(
                f"{path}: task {number} has no list of annotations; "
                "export from Label Studio as JSON, not as JSON-MIN"
            )
        sha256 = _digest(task, number, path)
        try:
            names = list(_class_names(task))
        except (AttributeError, TypeError) as error:  # a member of another kind than documented
            raise InputError(
                f"{path}: task {number} has an annotation that is not as Label Studio writes it"
            ) from error
        yield ClassNames(sha256, names, f"task {number}")


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
