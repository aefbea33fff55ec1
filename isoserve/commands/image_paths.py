"""Files, folders and standard input -> the images among them, one at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import (
    SUFFIXES,
    LeftOut,
    describe_left_out,
    image_files,
)
from isoserve.models.regular_file import read_regular

STDIN = Path("-")


def find_images(paths: Iterable[Path], left_out: LeftOut | None = None) -> Iterator[Path]:
    """Every file as given, and the images in every folder, at any depth, in order of their names.

    A folder is listed when its turn comes, so that a large tree is never held whole. A folder that
    cannot be listed is given as if it were an image: reading it then says why.

    Args:
        left_out: counts the files of folders whose ending is not an image's.
    """
    for path in paths:
        if path != STDIN and path.is_dir():
            yield from _in_folder(path, left_out)
        else:
            yield path


def check_paths(paths: Iterable[Path]) -> None:
    """Refuse what can only be a mistake, before any work is done.

    Raises:
        InputError: a path that is not there, or a folder without an image.
    """
    for path in paths:
        if path != STDIN and not path.exists():
            raise InputError(f"no file or folder '{path}'")
        left_out = LeftOut()
        if path.is_dir() and next(find_images([path], left_out), None) is None:
            line = describe_left_out(left_out)
            raise InputError(
                f"no images in the folder '{path}': looked for {', '.join(SUFFIXES)}"
                + (f"; {line}" if line else "")
            )


def read_image(path: Path, limit: int) -> bytes:
    """The file's bytes, or standard input's; one byte more than the limit where it is larger.

    Raises:
        OSError: it cannot be read.
    """
    if path == STDIN:
        return sys.stdin.buffer.read(limit + 1)
    return read_regular(path, limit + 1)


def _in_folder(root: Path, left_out: LeftOut | None) -> Iterator[Path]:
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    yield from image_files(root, note, left_out)
    yield from unreadable
