"""What a run is to do, kept in the output, so that a rerun does what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec.core
from pydantic import BaseModel, ConfigDict, ValidationError

from isoserve.models.errors import InputError
from isoserve.score.unit_table import UnitTable
from isoserve.score.units import Unit, part_name

PLAN, FAILED, SUMMARY, PAGE = "_plan.json", "_failed.json", "summary.json", "summary.html"


class Plan(BaseModel):
    """The model, the options that change a verdict, and where the units are."""

    model_config = ConfigDict(frozen=True)

    model: str
    sha256: str
    classes: list[str]
    calibration_images: int
    alpha: float
    sources: list[str]
    options: dict[str, Any]
    firsts: list[int] = [0]
    """The first unit of each file of ``_units``, and the number of units at the end."""
    images: int | None = 0
    """How many, where that is known beforehand."""

    @property
    def units(self) -> int:
        """How many."""
        return self.firsts[-1]


class Output:
    """The folder or URL that a run writes into."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._filesystem, self._root = fsspec.core.url_to_fs(self.url)
            self._filesystem.makedirs(self._root, exist_ok=True)
        except (ImportError, OSError, ValueError) as error:
            raise InputError(f"cannot write into '{url}': {error}") from error

    def read_plan(self) -> Plan | None:
        """The plan that is there; None where none is.

        Raises:
            InputError: it is not a plan.
        """
        path = f"{self._root}/{PLAN}"
        if not self._filesystem.exists(path):
            return None
        try:
            return Plan.model_validate_json(self._filesystem.cat_file(path))
        except ValidationError as error:
            raise InputError(f"'{self.url}/{PLAN}' is not a plan of isoserve score") from error

    def done(self, plan: Plan) -> set[int]:
        """The units whose file is there; what a killed worker began is removed."""
        self._filesystem.invalidate_cache()
        unfinished = f"{self._root}/_unfinished"
        if self._filesystem.exists(unfinished):
            self._filesystem.rm(unfinished, recursive=True)
        names = self._filesystem.ls(self._root, detail=False)
        found = (_PART.search(name) for name in names)
        return {int(part[1]) for part in found if part and int(part[1]) < plan.units}

    def part_url(self, index: int) -> str:
        """Of the file of a unit's rows."""
        return f"{self.url}/{part_name(index)}"

    def write(self, name: str, text: str) -> None:
        """A small file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        try:
            self._filesystem.pipe_file(f"{self._root}/{name}.part", text.encode())
            self._filesystem.mv(f"{self._root}/{name}.part", f"{self._root}/{name}")
        except OSError as error:
            raise InputError(f"cannot write '{self.url}/{name}': {error}") from error

    def remove(self, name: str) -> None:
        """A file of a former run, where there is one."""
        if self._filesystem.exists(f"{self._root}/{name}"):
            self._filesystem.rm(f"{self._root}/{name}")


_PART = re.compile(r"/part-(\d{7,})\.parquet$")


def check_same(found: Plan, wanted: Plan, url: str) -> None:
    """Whether a rerun goes on with what is there.

    Raises:
        InputError: it would mix two models, or two ways to judge.
    """
    if found.sha256 != wanted.sha256:
        raise InputError(
            f"'{url}' holds verdicts of the model {found.sha256[:12]}, and this one is "
            f"{wanted.sha256[:12]}: give another --output"
        )
    for name in ("alpha", "sources", "options"):
        before, now = getattr(found, name), getattr(wanted, name)
        if before != now:
            raise InputError(
                f"'{url}' was begun with other {name} ({before}, now {now}): give another --output"
            )


def with_units(plan: Plan, table: UnitTable, units: Iterable[Unit]) -> Plan:
    """The plan with these units, which are written on the way."""
    images: int | None = 0

    def counted() -> Iterator[Unit]:
        nonlocal images
        for unit in units:
            images = None if images is None or unit.images is None else images + unit.images
            yield unit

    firsts = table.write(counted())
    return plan.model_copy(update={"firsts": firsts, "images": images})
