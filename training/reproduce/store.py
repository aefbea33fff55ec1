"""Finished cells on disk, by the digest of what determines them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoserve.models.errors import InputError
from isoserve.training.atomic import atomic_path

CELL_VERSION = 1
"""Part of every digest: raised when code changes what a cell holds."""

Arrays = dict[str, NDArray[Any]]


def digest(**determined_by: Any) -> str:
    """Short name of a cell: SHA-256 over the canonical JSON of what determines it."""
    text = json.dumps({"version": CELL_VERSION, **determined_by}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Store:
    """Cells under one folder; each appears whole or not at all.

    Several processes may share the folder: none computes what another is computing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, key: str) -> Path:
        """A cell that is a folder of its own, such as a training."""
        return self.root / kind / key

    @contextmanager
    def claim(self, kind: str, key: str, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from a piece of work; False: one of them is at it.

        ``wait``: until it is done instead. The system lets a claim go when its process ends,
        however it ends.
        """
        path = self.root / "claims" / f"{kind}-{key}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def arrays(self, kind: str, key: str, compute: Callable[[], Arrays]) -> Arrays:
        """The cell's arrays, computed and kept if they are not there.

        Raises:
            InputError: the file there is broken.
        """
        path = self.root / kind / f"{key}.npz"
        if not path.exists():
            with self.claim(kind, key, wait=True):
                if not path.exists():  # another process may have been at it
                    arrays = compute()
                    with atomic_path(path) as temporary, temporary.open("wb") as file:
                        np.savez(file, allow_pickle=False, **arrays)
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a cell of this grid ({error}): delete it") from error

    def values(self, kind: str, key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell's JSON values, computed and kept if they are not there.

        Raises:
            InputError: the file there is broken.
        """
        kept = self.kept_values(kind, key)
        if kept is None:
            with self.claim(kind, key, wait=True):
                kept = self.kept_values(kind, key)  # another process may have been at it
                if kept is None:
                    text = json.dumps(compute(), indent=1)
                    with atomic_path(self.root / kind / f"{key}.json") as temporary:
                        temporary.write_text(text, encoding="utf-8")
                    kept = json.loads(text)
        return kept

    def kept_values(self, kind: str, key: str) -> dict[str, Any] | None:
        """The cell's JSON values; None if they are not there.

        Raises:
            InputError: the file there is broken.
        """
        path = self.root / kind / f"{key}.json"
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a cell of this grid ({error}): delete it") from error
        return values
