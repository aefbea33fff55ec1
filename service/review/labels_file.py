"""Labels in a file of Label Studio's or FiftyOne's, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path

import orjson

from isoserve.models.errors import InputError
from isoserve.service.review import fiftyone_labels, label_studio_labels
from isoserve.service.review.labels import Imported, mark_images
from isoserve.service.review.store import ReviewStore


def import_labels(store: ReviewStore, path: Path) -> Imported:
    """Mark the queue's images as the file says, all or, on an error, none.

    Args:
        path: Label Studio's JSON export; FiftyOne's ``labels.json``, or the folder that has it.

    Raises:
        InputError: no such file, not of the images that were exported here, or a class that cannot
            name a folder.
    """
    if path.is_dir():
        path = path / "labels.json"
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{path}: not JSON ({error}); export from Label Studio as JSON, or from FiftyOne as "
            "FiftyOneImageClassificationDataset"
        ) from error
    if isinstance(found, list):
        return mark_images(store, label_studio_labels.said_of(found, path), path)
    if isinstance(found, dict) and "labels" in found:
        return mark_images(store, fiftyone_labels.said_of(found, path), path)
    raise InputError(
        f"{path}: not a list of tasks, as Label Studio exports them as JSON, nor FiftyOne's labels"
    )
