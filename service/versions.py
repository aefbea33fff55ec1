"""What is known of a model's versions, and the one that is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from models.card import ModelCard
from service.engine import Model
from service.metrics import ModelSeries

State = Literal["available", "serving", "refused", "unloaded"]
"""On disk but not tried or not needed · answers · does not load · taken out by request."""

Fingerprint = tuple[int, int, int]
"""Inode, size and modification time: another file is another fingerprint."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
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
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    fingerprint: Fingerprint | None = None

    def becomes(self, state: State, reason: str = "", detail: str = "") -> None:
        """Enter a state, now."""
        self.state, self.reason, self.detail = state, reason, detail
        self.since = datetime.now(UTC)


@dataclass(slots=True)
class ModelRecord:
    """One model's versions, by number, and the one that answers."""

    name: str
    versions: dict[int, VersionRecord] = field(default_factory=dict)
    served: Served | None = None
