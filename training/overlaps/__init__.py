"""Classes of out-distributions that an in-distribution knows: by no means foreign to it.

``tinyimagenet_cifar10.csv``: the 23 of Tiny ImageNet's 200 classes (11.5 % of its images) that
show what CIFAR-10's classes are called. Big cats, buses, tractors and antelopes are not among
them: CIFAR-10 has none of them under its names.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from isoserve.models.text import pluralize

_LISTS = {"tinyimagenet": "tinyimagenet_cifar10.csv", "tin": "tinyimagenet_cifar10.csv"}
"""Name of an out-distribution -> file beside this package."""

_WNID = re.compile(r"n\d{8}")
_ANNOTATIONS = "val_annotations.txt"
"""Of the archive's val folder: a line for each image, its name and its class first."""


@dataclass(frozen=True)
class KnownClass:
    """A class of an out-distribution that depicts one of the in-distribution."""

    wnid: str
    name: str
    known_as: str
    """The in-distribution's class."""
    reason: str


def known_classes(name: str, classes: Sequence[str]) -> dict[str, KnownClass]:
    """By WordNet id, of the out-distribution ``name`` those that are among ``classes``."""
    file = _LISTS.get(name.lower())
    if file is None:
        return {}
    text = resources.files("isoserve.training.overlaps").joinpath(file).read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    found = [
        KnownClass(row["wnid"], row["name"], row["cifar10_class"], row["reason"]) for row in rows
    ]
    return {each.wnid: each for each in found if each.known_as in classes}


def without_known(
    name: str, paths: Sequence[Path], classes: Sequence[str]
) -> tuple[list[Path], str]:
    """The images whose class is not one of ``classes``, and a note on what was left out.

    An image's class is the folder, at any height, that is named by a WordNet id, or what the
    archive's list of its validation images says.
    """
    known = known_classes(name, classes)
    if not known:
        return list(paths), ""
    listed: dict[Path, dict[str, str]] = {}
    wnids = [_wnid(path, listed) for path in paths]
    if not any(wnids):
        return list(paths), (
            f"no class names: {pluralize(len(known), 'class', 'classes')} of the original set "
            "are the model's own"
        )
    kept = [path for path, wnid in zip(paths, wnids, strict=True) if wnid not in known]
    left_out = len(paths) - len(kept)
    return kept, f"without {pluralize(left_out, 'image')} of the model's own classes"


def _wnid(path: Path, listed: dict[Path, dict[str, str]]) -> str | None:
    for part in reversed(path.parts[:-1]):
        if _WNID.fullmatch(part):
            return part
    folder = path.parent.parent
    if folder not in listed:
        table = folder / _ANNOTATIONS
        lines = table.read_text("utf-8").splitlines() if table.is_file() else []
        listed[folder] = {words[0]: words[1] for line in lines if len(words := line.split()) > 1}
    return listed[folder].get(path.name)
