"""Warnings about named shadows that are not in the repository."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from isoserve.service.repository.versions import ModelRecord
from isoserve.service.shadow_config import NamedShadow

log = logging.getLogger("isoserve.shadow")


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
