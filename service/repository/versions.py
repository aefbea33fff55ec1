"""What is known of a model's versions, and the one that is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from isoserve.models.card import ModelCard, ModelName
from isoserve.service.inference.engines import ComputeForm
from isoserve.service.inference.model import Model
from isoserve.service.observability.model_metrics import ModelSeries
from isoserve.service.repository.shadow import Shadow

State = Literal["available", "serving", "shadow", "refused", "unloaded"]
"""On disk but not tried or not needed · answers · is in memory and only compared · does not load ·
taken out by request."""

Fingerprint = tuple[int, ...]
"""Inode, size and modification time of the file, and of its signature where it has one: another
file is another fingerprint."""


@dataclass(frozen=True, slots=True, eq=False)
class ServingModel:
    """A loaded version and where its verdicts are counted; compared by identity."""

    model: Model
    series: ModelSeries


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version directory."""

    version: int
    state: State = "available"
    reason: str = ""
    detail: str = ""
    sha256: str = ""
    card: ModelCard | None = None
    form: ComputeForm | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    fingerprint: Fingerprint | None = None

    def becomes(self, state: State, reason: str = "", detail: str = "") -> None:
        """Enter a state, now."""
        self.state, self.reason, self.detail = state, reason, detail
        self.since = datetime.now(UTC)


@dataclass(slots=True)
class ModelRecord:
    """One model's versions, by number, the one that answers and the one it is compared with.

    ``unloaded``: all of it by request, versions that appear later too.
    """

    name: str
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    served: ServingModel | None = None
    shadow: Shadow | None = None
    unloaded: bool = False


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
