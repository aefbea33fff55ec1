"""Durations that an operator sets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
"""A week at most: clocks and timers take no endless time."""
