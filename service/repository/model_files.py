"""A model's files: which names they have, and whether they are what they were."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from isoserve.models.card import ModelName

Fingerprint = tuple[int, ...]
"""Inode, size and modification time of the file, and of its signature where it has one: another
file is another fingerprint."""


def fingerprint_of(path: Path) -> Fingerprint | None:
    """Of the file as it is now; None where there is none."""
    try:
        model = path.stat()
    except OSError:
        return None
    try:
        signature = signature_of(path).stat()
    except OSError:
        return (model.st_ino, model.st_size, model.st_mtime_ns)
    return tuple(
        value
        for status in (model, signature)
        for value in (status.st_ino, status.st_size, status.st_mtime_ns)
    )


def signature_of(path: Path) -> Path:
    """Where a model file's signature lies, if it has one."""
    return path.with_name(f"{path.name}.sig")


def is_version(name: str) -> bool:
    """Whether a folder of this name is a version: a whole number from 1 on, no zero before it."""
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 18


def is_model_name(name: str) -> bool:
    """Whether a folder of this name is a model."""
    try:
        _MODEL_NAME.validate_python(name)
    except ValidationError:
        return False
    return True


_MODEL_NAME: TypeAdapter[str] = TypeAdapter(ModelName)
