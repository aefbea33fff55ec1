"""Labelled images -> an image folder that ``isoserve train`` takes: ``CLASS/*``."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import image_files
from isoserve.models.image_files.header import read_header
from isoserve.service.review.store import ReviewStore
from isoserve.service.review.whole_folder import whole_folder


def export_images(store: ReviewStore, target: Path, base: Path | None = None) -> Counter[str]:
    """Write each labelled image as ``target/CLASS/reviewed-DIGEST.EXT``; junk is left out.

    Args:
        target: a folder that is not there yet, or empty. It appears whole or not at all.
        base: an image folder, ``CLASS/*`` or ``train/CLASS/*``, whose images are to be in
            the new one too: what the serving model was trained on. Linked where that is possible.

    Returns:
        Images a class, those of ``base`` included.

    Raises:
        InputError: the target has something in it or cannot be written, or there is nothing to
            write.
    """
    with whole_folder(target) as folder:
        written = _write_labelled(store, folder)
        if base is not None:
            written += _link(base, folder)
    return written


def _write_labelled(store: ReviewStore, target: Path) -> Counter[str]:
    written: Counter[str] = Counter()
    for class_name, sha256, image in store.labelled():
        folder = target / class_name
        folder.mkdir(exist_ok=True)
        extension = read_header(image).format.lower()
        (folder / f"reviewed-{sha256[:20]}.{extension}").write_bytes(image)
        written[class_name] += 1
    if not written:
        raise InputError("no image is labelled as of a known or new class yet; nothing to export")
    return written


def _link(base: Path, target: Path) -> Counter[str]:
    root = base / "train" if (base / "train").is_dir() else base
    linked: Counter[str] = Counter()
    for file in image_files(root):
        inside = file.relative_to(root)
        if len(inside.parts) == 1:
            continue  # in no class's folder
        copy = target / inside
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.resolve(), copy)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, copy)
        linked[inside.parts[0]] += 1
    if not linked:
        raise InputError(f"no images in '{root}': give a folder of CLASS/* or train/CLASS/*")
    return linked
