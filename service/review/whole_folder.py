"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoserve.models.errors import InputError


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Another folder to write into, which becomes ``target`` if that went well.

    Whoever moves its files elsewhere and removes it himself is left alone.

    Args:
        target: not there yet, or an empty folder.

    Raises:
        InputError: the target has something in it or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"'{target}' has something in it; name what is not there yet")
    half = target.with_name(target.name + ".part")
    try:
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        yield half
        if half.exists():
            if target.exists():
                target.rmdir()
            half.rename(target)
    except OSError as error:
        raise InputError(f"cannot export to '{target}': {error.strerror or error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
