"""The image files in a folder: one rule for training, prediction and review."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from isoserve.models.image_files.header import FORMATS

_SUFFIXES_OF: dict[str, tuple[str, ...]] = {
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "PNG": (".apng", ".png"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heics", ".heif", ".heifs", ".hif"),
}

SUFFIXES = tuple(sorted(suffix for name in FORMATS for suffix in _SUFFIXES_OF[name]))
"""Endings, in lower case, under which a file in a folder is taken for an image."""


def image_files(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """The images in a folder, at any depth; each folder's files in order, before its folders'.

    Hidden files and folders, links to folders, and what is neither file nor folder are left out: a
    named pipe would be waited on for ever. A tree is never held whole.

    Args:
        onerror: called with the error of each folder that cannot be listed, which is passed over.
    """
    for root, folders, files in os.walk(folder, onerror=onerror):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if not name.startswith(".") and name.lower().endswith(SUFFIXES) and _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    """Also of what cannot be looked at, such as a broken link: reading it then says why."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
