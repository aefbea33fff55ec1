"""The shadows that the operator names in ``--shadow``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isoserve.models.card import ModelName


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
