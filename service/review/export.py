"""Labelled images -> an image folder that ``isoserve train`` takes: ``CLASS/*``."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from models.errors import InputError
from models.image_files.header import read_header
from service.review.store import ReviewStore


def export_images(store: ReviewStore, target: Path, base: Path | None = None) -> Counter[str]:
    """Write each labelled image as ``target/CLASS/reviewed-DIGEST.EXT``; junk is left out.

    Args:
        target: a folder that is not there yet, or empty. It appears whole or not at all.
        base: an image folder, ``CLASS/*`` or ``train/CLASS/*``, whose images are to be in
            the new one too: what the serving model was trained on. Linked where that is possible.

    Returns:
        Images a class, those of ``base`` included.

    Raises:
        InputError: the target has something in it, or there is nothing to write.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"'{target}' has something in it; name a folder that is not there yet")
    half = target.with_name(target.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    written: Counter[str] = Counter()
    for class_name, sha256, image in store.labelled():
        folder = half / class_name
        folder.mkdir(exist_ok=True)
        extension = read_header(image).format.lower()
        (folder / f"reviewed-{sha256[:20]}.{extension}").write_bytes(image)
        written[class_name] += 1
    if not written:
        half.rmdir()
        raise InputError("no image is labelled as of a known or new class yet; nothing to export")
    if base is not None:
        written += _link(base, half)
    if target.exists():
        target.rmdir()
    half.rename(target)
    return written


def _link(base: Path, target: Path) -> Counter[str]:
    root = base / "train" if (base / "train").is_dir() else base
    if not root.is_dir():
        raise InputError(f"no image folder at '{base}': give CLASS/* or train/CLASS/*")
    linked: Counter[str] = Counter()
    for file in sorted(root.glob("*/*")):
        if not file.is_file():
            continue
        folder = target / file.parent.name
        folder.mkdir(exist_ok=True)
        try:
            os.link(file.resolve(), folder / file.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, folder / file.name)
        linked[file.parent.name] += 1
    return linked
