"""The shadows that the operator names, and a word where one of them is not there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isoserve.models.card import ModelName

if TYPE_CHECKING:
    from isoserve.service.repository.versions import ModelRecord

log = logging.getLogger("isoserve.shadow")


class NamedShadow(BaseModel):
    """What the operator named: which version is a model's shadow, and what it sees."""

    model_config = ConfigDict(frozen=True)

    model: ModelName
    version: int = Field(ge=1)
    share: float = Field(0.1, gt=0, le=1)


def shadows_of(text: str) -> dict[str, NamedShadow]:
    """Shadows by model, of ``MODEL:VERSION`` or ``MODEL:VERSION:SHARE`` with commas between.

    Raises:
        ValueError: another form, a share out of range, or a model named twice.
    """
    shadows: dict[str, NamedShadow] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        shadow = _shadow_of(entry)
        if shadow.model in shadows:
            raise ValueError(f"model '{shadow.model}' has two shadows; name one version of it")
        shadows[shadow.model] = shadow
    return shadows


class MissingShadows:
    """Tells of each named shadow that is not in the repository, once until it has appeared."""

    def __init__(self, shadows: Mapping[str, NamedShadow]) -> None:
        self._shadows = shadows
        self._reported: set[str] = set()

    def report(self, models: Mapping[str, ModelRecord]) -> None:
        """Look at what there is now."""
        for name, shadow in self._shadows.items():
            record = models.get(name)
            if record is not None and shadow.version in record.versions:
                self._reported.discard(name)
            elif name not in self._reported:
                self._reported.add(name)
                log.warning(
                    "%s version %d, named as a shadow, is not in the repository: "
                    "nothing is compared with it until it appears",
                    *(name, shadow.version),
                )


def _shadow_of(entry: str) -> NamedShadow:
    parts = dict(zip(("model", "version", "share"), entry.split(":"), strict=False))
    try:
        if len(parts) <= entry.count(":"):
            raise ValueError
        return NamedShadow.model_validate(parts)
    except ValueError as error:
        said = f"a shadow is MODEL:VERSION or MODEL:VERSION:SHARE, not '{entry}'"
        if isinstance(error, ValidationError) and error.errors()[0]["loc"] == ("share",):
            said = f"the share of '{entry}' must be a number over 0 and at most 1"
        raise ValueError(said) from error
