"""The environment as settings: empty variables are unset, and Kubernetes' own are not ours.

For each Service of a namespace Kubernetes gives every container ``NAME_PORT=tcp://10.0.0.1:8000``
and more like it: a Service that is named isoserve, or isoserve-grpc, takes the names of settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S*")
"""What Kubernetes writes into ``NAME_PORT``; no setting has such a value."""


class EnvironmentSettings(EnvSettingsSource):
    """pydantic's source without the variables that Kubernetes set."""

    def __call__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in super().__call__().items()
            if not (isinstance(value, str) and SERVICE_ADDRESS.fullmatch(value))
        }


class EnvironmentModel(BaseSettings):
    """Settings out of what is given, else the environment, and from nowhere else."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, else the environment; pydantic's hook."""
        return init_settings, EnvironmentSettings(settings_cls)


def ignored_variables(environment: Mapping[str, str], prefix: str, names: list[str]) -> list[str]:
    """A sentence for each variable of these settings that is taken for Kubernetes' own."""
    said = []
    for name in names:
        variable = prefix + name.upper()
        value = environment.get(variable, "")
        if SERVICE_ADDRESS.fullmatch(value):
            said.append(
                f"{variable}={value} is ignored: Kubernetes sets it for a Service of that name; "
                f"give --{name.replace('_', '-')} instead, or enableServiceLinks: false"
            )
    return said
