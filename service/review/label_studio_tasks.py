"""Unlabelled images -> tasks that Label Studio imports, what the model knows least first.

The layout is Label Studio's "Basic JSON": a list of tasks, each with ``data`` and ``predictions``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import orjson
from sqlalchemy import Row

from isoserve.models.errors import InputError
from isoserve.models.image_files.header import read_header
from isoserve.service.review.store import ReviewStore
from isoserve.service.review.table import taken_at
from isoserve.service.review.whole_folder import whole_folder

IMAGE, KNOWN, NEW, NEW_NAME, JUNK = "image", "class", "new_class", "new_class_name", "junk"
"""Names of the tags in the labelling interface; what a person chose comes back under them."""

_DATA = ("sha256", "label", "probability", "p_value", "entropic_score", "rejected")


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """``classes``: offered besides those of the queue; ``image_url``: what comes before the names
    of image files that are written beside the tasks, where None puts the images into the tasks."""

    classes: tuple[str, ...] = ()
    image_url: str | None = None


def export_tasks(store: ReviewStore, target: Path, options: TaskOptions = TaskOptions()) -> int:
    """Write ``target/tasks.json`` and ``target/tasks.xml``, the labelling interface.

    Args:
        target: a folder that is not there yet, or empty; or a file ``NAME.json`` that is not there,
            which gets ``NAME.xml`` beside it. It appears whole or not at all.

    Returns:
        The number of tasks.

    Raises:
        InputError: the target has something in it or cannot be written, nothing waits for a label,
            or a class cannot be offered.
    """
    is_file = target.suffix == ".json"
    if is_file and options.image_url is not None:
        raise InputError(f"'{target}' is a file; image files need a folder: name one")
    if is_file and (target.exists() or target.with_suffix(".xml").exists()):
        raise InputError(f"'{target}' has something in it; name what is not there yet")
    with whole_folder(target) as folder:
        (folder / "tasks.xml").write_bytes(_interface(store, options.classes))
        count = _write_tasks(store, folder, options.image_url)
        if is_file:
            (folder / "tasks.xml").rename(target.with_suffix(".xml"))
            (folder / "tasks.json").rename(target)
            folder.rmdir()
    return count


def _write_tasks(store: ReviewStore, folder: Path, image_url: str | None) -> int:
    count = 0
    if image_url is not None:
        (folder / "images").mkdir()
    with (folder / "tasks.json").open("wb") as file:
        for row, image in store.unmarked():
            kind = read_header(image).format.lower()
            if image_url is None:
                shown = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
            else:
                name = f"{row.sha256}.{kind}"
                (folder / "images" / name).write_bytes(image)
                shown = image_url + name
            _append(file, _task(row, shown), first=not count)
            count += 1
        file.write(b"\n]\n")
    if not count:
        raise InputError("no image waits for a label; nothing to export")
    return count


def _append(file: BinaryIO, task: dict[str, Any], *, first: bool) -> None:
    # One by one: all images at once may be more than fits into memory.
    file.write((b"[\n" if first else b",\n") + orjson.dumps(task))


def _task(row: Row[Any], image: str) -> dict[str, Any]:
    version = f"{row.model}/{row.version}"
    return {
        "data": {
            IMAGE: image,
            **{name: getattr(row, name) for name in _DATA},
            "model": version,
            "taken": taken_at(row),
        },
        "predictions": [
            {
                "model_version": version,
                # Label Studio sorts by it, the least sure first, as the tasks are sorted here.
                "score": row.p_value,
                "result": [
                    {
                        "id": row.sha256[:16],
                        "from_name": KNOWN,
                        "to_name": IMAGE,
                        "type": "choices",
                        "value": {"choices": [row.label]},
                    }
                ],
            }
        ],
    }


def _interface(store: ReviewStore, more: Iterable[str]) -> bytes:
    predicted, new = store.classes()
    known = {**dict.fromkeys(more), **dict.fromkeys(sorted(predicted))}
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true")
    _choices(view, KNOWN, known)
    _choices(view, NEW, sorted(new - set(known)))
    ElementTree.SubElement(
        view,
        "TextArea",
        name=NEW_NAME,
        toName=IMAGE,
        maxSubmissions="1",
        placeholder="A class that the model does not have yet",
    )
    _choices(view, JUNK, [JUNK])
    ElementTree.indent(view)
    text: bytes = ElementTree.tostring(view, encoding="utf-8")
    return text + b"\n"


def _choices(view: ElementTree.Element, name: str, values: Iterable[str]) -> None:
    values = list(values)
    for value in values:
        if not value.isprintable():
            raise InputError(f"class {value!r} has characters that Label Studio cannot show")
    if values:
        tag = ElementTree.SubElement(view, "Choices", name=name, toName=IMAGE, choice="single")
        for value in values:
            ElementTree.SubElement(tag, "Choice", value=value)
