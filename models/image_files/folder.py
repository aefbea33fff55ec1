"""The image files in a folder: one rule for training, prediction and review."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from isoserve.models.image_files import heif
from isoserve.models.image_files.header import FORMATS
from isoserve.models.text import pluralize, printable

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


LeftOut = Counter[str]
"""How many files of each ending, in lower case, were seen and not taken for images."""

_OF_NO_USER = frozenset(
    {
        "$recycle.bin",
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        "__macosx",
        "lost+found",
        "system volume information",
    }
)
"""Folders that network drives, archives and systems leave behind, in lower case."""

_DROPPINGS = frozenset({"desktop.ini", "thumbs.db"})
_NAMELESS = "without an ending"


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's and not a person's."""
    return name.startswith(".") or name.lower() in _OF_NO_USER or name.lower() in _DROPPINGS


def image_files(
    folder: Path,
    onerror: Callable[[OSError], None] | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[Path]:
    """The images in a folder, at any depth; each folder's files in order, before its folders'.

    Hidden files and folders, those that network drives and archives leave behind (``@eaDir``,
    ``__MACOSX``), links to folders, and what is neither file nor folder are left out: a named pipe
    would be waited on for ever. A tree is never held whole.

    Args:
        onerror: called with the error of each folder that cannot be listed, which is passed over.
        left_out: counts the files whose ending is not an image's.
    """
    for root, folders, files in os.walk(folder, onerror=onerror):
        folders[:] = sorted(name for name in folders if not is_foreign(name))
        for name in sorted(files):
            path = Path(root, name)
            if is_foreign(name) or not _is_file(path):
                continue
            if name.lower().endswith(SUFFIXES):
                yield path
            elif left_out is not None:
                left_out[path.suffix.lower() or _NAMELESS] += 1


def describe_left_out(left_out: LeftOut) -> str:
    """``102 files left out: .heic 80, .txt 22``, the most frequent first; empty for none."""
    if not left_out:
        return ""
    counts = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    line = f"{pluralize(left_out.total(), 'file')} left out: " + ", ".join(
        f"{printable(ending)} {count}" for ending, count in counts
    )
    if not heif.IS_INSTALLED and any(ending in _SUFFIXES_OF["HEIF"] for ending in left_out):
        line += '; HEIC photographs need the extra: pip install "isoserve[heif]"'
    return line


def _is_file(path: Path) -> bool:
    """Also of what cannot be looked at, such as a broken link: reading it then says why."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True
