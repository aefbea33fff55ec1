"""The recipe that suits the images and the machine, and why, where none was named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A recipe's name, the settings that go with it, and one line that says why."""

    recipe: str
    reason: str
    settings: Mapping[str, Any]


def choose() -> Choice:
    """The papers' recipe: every network starts from random weights."""
    return Choice("paper", "the network starts from random weights", {})
