"""What requests look up: models by name, and the version of each that answers."""

from __future__ import annotations

from isoserve.service.errors import Problem
from isoserve.service.repository.shadow import Shadow
from isoserve.service.repository.versions import ModelRecord, ServingModel, VersionRecord

PHOTOGRAPHS = "clothes"
EMBEDDED = {"cifar10", PHOTOGRAPHS}
"""The models that come with the program: a newcomer sends photographs, not 32 x 32 pixels."""


class ModelIndex:
    """The models by name; read from the event loop without a lock, since records change whole.

    Args:
        default_model: answers requests that name none; empty for the only one, or the first.
    """

    def __init__(self, default_model: str) -> None:
        self._default_model = default_model
        self.models: dict[str, ModelRecord] = {}
        self.scanned = False
        self.settled = False

    @property
    def not_ready(self) -> str:
        """Why no requests should be sent here; empty where they may come.

        They wait for the model that answers those which name none. Where the operator named no such
        model and the first by name did not load, another is enough: a bad file must not take the
        other models from their clients.
        """
        name = self.default_name
        if not self.scanned:
            return "the models are being loaded"
        if not name:
            return "no model is loaded"
        record = self.models.get(name)
        if record is not None and record.served:
            return ""
        served = sorted(each.name for each in [*self.models.values()] if each.served)
        if served and self.settled and not self._default_model:
            return ""
        others = f"; {', '.join(served)} would answer by name" if served else ""
        if not self.settled:
            return f"model '{name}', which answers requests that name none, is being loaded{others}"
        if record is None:
            return f"default_model is '{name}', which is not in the repository{others}"
        return f"model '{name}' has no version that serves{others}"

    @property
    def default_name(self) -> str:
        """The model that requests ask that name none; empty where there is none."""
        if self.models.keys() == EMBEDDED:
            return self._default_model or PHOTOGRAPHS
        return self._default_model or min(self.models, default="")

    def resolve(self, name: str | None, version: int | None) -> ServingModel:
        """The version that answers now.

        Raises:
            Problem: 404 for a model or version that is not here, 503 when none is loaded.
        """
        record = self._record(name)
        served = record.served
        if served is None:
            raise Problem(
                503,
                "no_model_ready",
                f"model '{record.name}' has no version that serves",
                retry_after=5,
            )
        if version is not None and version != served.model.version:
            raise Problem(
                404,
                "no_such_version",
                f"version {version} of model '{record.name}' does not serve; "
                f"version {served.model.version} does",
            )
        return served

    def find(self, name: str) -> ModelRecord:
        """A model's record.

        Raises:
            Problem: 404, no such model.
        """
        record = self.models.get(name)
        if record is None:
            raise Problem(404, "no_such_model", f"no model is called '{name[:64]}'")
        return record

    def shadow_of(self, name: str) -> Shadow | None:
        """A model's shadow, once it is in memory."""
        record = self.models.get(name)
        return None if record is None else record.shadow

    def _record(self, name: str | None) -> ModelRecord:
        name = name or self.default_name
        if not name:
            raise Problem(
                503,
                "no_model_ready",
                "no model is loaded" if self.scanned else "the models are being loaded",
                retry_after=5,
            )
        return self.find(name)

    def _chosen(self, name: str, version: int | None) -> list[VersionRecord]:
        versions = self.find(name).versions
        if version is None:
            return list(versions.values())
        if version not in versions:
            raise Problem(404, "no_such_version", f"model '{name}' has no version {version}")
        return [versions[version]]
