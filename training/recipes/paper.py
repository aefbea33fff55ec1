"""The papers' recipe, which is :class:`Recipe`'s own defaults: SGD from random weights."""

from __future__ import annotations

from isoserve.training.recipes.way import Way
from isoserve.training.trainer import fit

PAPER = Way(fit)
