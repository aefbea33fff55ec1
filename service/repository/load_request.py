"""What a process that tries to load models is asked, and what it replies."""

from __future__ import annotations

from dataclasses import dataclass

from isoserve.service.inference.execution import (
    Device,
    EngineChoice,
    PrecisionChoice,
    Trial,
)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Which file to try, and what that may take."""

    path: str
    max_batch: int
    device: Device
    engine: EngineChoice
    precision: PrecisionChoice
    max_model_bytes: int
    max_load_bytes: int
    """Of memory, beside what this process has already."""
    trusted_key: str = ""
    """File of the public key whose signature the file needs; empty asks for none."""


@dataclass(frozen=True, slots=True)
class LoadReply:
    """What came of it: name, digest and what the trial has found, or why it is refused."""

    name: str = ""
    sha256: str = ""
    trial: Trial | None = None
    reason: str = ""
    detail: str = ""
