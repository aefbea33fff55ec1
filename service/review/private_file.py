"""The review database's file: readable by its owner alone, and noticed when it is not the same."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from isoserve.models.errors import InputError

log = logging.getLogger("isoserve.review")


class PrivateFile:
    """A file that is made before SQLite does.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._identity = self._make()
        except OSError as error:
            raise InputError(
                f"the review database '{path}' cannot be opened: {error.strerror}"
            ) from error

    def has_changed(self) -> bool:
        """Whether another file is there now than at the last call; one that was removed is made.

        Raises:
            OSError: it cannot be made.
        """
        try:
            found = Path(self._path).stat()
        except FileNotFoundError:
            log.warning("the review database '%s' was removed; it is begun anew", self._path)
            self._identity = self._make()
            return True
        identity = (found.st_dev, found.st_ino)
        if identity == self._identity:
            return False
        # By a person; or removed, and another process has made it again.
        log.warning("the review database '%s' was replaced; the new file is used", self._path)
        self._identity = identity
        return True

    def _make(self) -> tuple[int, int]:
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            made = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return made.st_dev, made.st_ino
