"""What is known of a model's versions, and the one that is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from isoserve.models.card import ModelCard
from isoserve.service.inference.execution import ComputeForm
from isoserve.service.inference.model import Model
from isoserve.service.observability.model_metrics import ModelSeries
from isoserve.service.repository.model_files import Fingerprint
from isoserve.service.repository.shadow import Shadow

State = Literal["available", "serving", "shadow", "refused", "unloaded"]
"""On disk but not tried or not needed · answers · is in memory and only compared · does not load ·
taken out by request."""


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
