"""What lies in the repository's folder: models, their versions, and each version's file."""

from __future__ import annotations

import logging
from pathlib import Path

from isoserve.service.repository.model_files import is_model_name, is_version

log = logging.getLogger("isoserve.repository")

MODEL_FILE = "model.onnx"

SIGNATURE_FILE = f"{MODEL_FILE}.sig"

Files = dict[int, Path]
"""A model's files by version."""


class ModelFolder:
    """``NAME/VERSION/model.onnx`` under ``root``; what is named otherwise is passed over."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unreadable: set[str] = set()

    def models(self) -> dict[str, Files | None]:
        """The files of each model that has versions; None where its folder cannot be read now.

        Raises:
            OSError: the root cannot be read.
        """
        found: dict[str, Files | None] = {}
        for folder in self._root.iterdir():
            if not is_model_name(folder.name):
                continue
            try:
                files = _files(folder)
            except OSError as error:
                found[folder.name] = None
                if folder.name not in self._unreadable:
                    log.error("the folder of %s cannot be read: %s", folder.name, error.strerror)
                continue
            if files:
                found[folder.name] = files
        self._unreadable = {name for name, files in found.items() if files is None}
        return found


def _files(folder: Path) -> Files:
    if not folder.is_dir():
        return {}
    return {
        int(path.name): path / MODEL_FILE
        for path in folder.iterdir()
        if is_version(path.name) and path.is_dir()
    }
