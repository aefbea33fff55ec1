"""Labels of another program -> marks of the images in the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from isoserve.models.errors import InputError
from isoserve.service.review.class_name import CLASS_NAME_RULE, can_name_a_folder
from isoserve.service.review.store import ReviewStore
from isoserve.service.review.table import Mark

_Label = tuple[Mark, str | None]


@dataclass(frozen=True, slots=True)
class ClassNames:
    """What a task or sample says of an image.

    ``names``: of each label, None for junk; ``called``: what the file calls it, for messages.
    """

    sha256: str
    names: list[str | None]
    called: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the labels of a file.

    ``labelled``: images by class; ``unlabelled``: without a label, or skipped; ``disagreeing``:
    with several classes, of one person or of several, and left as they were; ``absent``: no longer
    in the queue.
    """

    labelled: dict[str, int]
    junk: int
    unlabelled: int
    disagreeing: int
    absent: int


def mark_images(store: ReviewStore, found: Iterable[ClassNames], file: object) -> Imported:
    """Mark the queue's images as the labels say, all or, on an error, none.

    An image that has a mark gets the new one.

    Raises:
        InputError: a class that cannot name a folder.
    """
    predicted, _ = store.classes()
    said: dict[str, set[_Label]] = {}
    for each in found:
        labels = said.setdefault(each.sha256, set())
        for name in each.names:
            if name is not None and not can_name_a_folder(name):
                raise InputError(f"{file}: {each.called}: class {name!r:.140} {CLASS_NAME_RULE}")
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
