"""Which folders of a data set are its splits, and which its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES, image_files, is_foreign
from isoserve.models.text import pluralize, printable

Split = Literal["train", "validation", "test"]

NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of split folders, in lower case."""


_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")


class Layout(NamedTuple):
    """Where each split's class folders lie; None for a split that is not there."""

    train: Path | None
    validation: Path | None
    test: Path | None


def class_folders(folder: Path) -> list[Path]:
    """The folders of a folder in order of their names, without hidden ones and systems' own."""
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not is_foreign(entry.name)
    )


def read_layout(root: Path) -> Layout:
    """Find the split folders of a data set; without any, ``root`` itself is the training split.

    A folder called ``train`` is a split where it holds class folders, and a class where it holds
    images and stands beside other classes.

    Raises:
        InputError: two folders for one split, or a layout that can be read both ways; both
            readings are named.
    """
    folders = class_folders(root)
    named = [folder for folder in folders if folder.name.lower() in NAMES]
    others = [folder for folder in folders if folder not in named]
    splits = [folder for folder in named if _holds_class_folders(folder)]
    flat = [folder for folder in named if folder not in splits]
    if not named or (not splits and any(_has_image(folder) for folder in others)):
        return Layout(root, None, None)
    if not splits or (len(named) == 1 and any(_has_image(folder) for folder in others)):
        raise _ambiguous(root, named, [*named, *others])
    if any(NAMES[folder.name.lower()] == "train" for folder in flat):
        raise _ambiguous(root, named, [*named, *others])
    found: dict[Split, Path] = {}
    for folder in named:
        split = NAMES[folder.name.lower()]
        if split in found:
            raise InputError(
                f"{printable(str(root))} has two folders of {split} images, "
                f"{printable(found[split].name)!r} and {printable(folder.name)!r}: leave one, or "
                "give one of them itself"
            )
        found[split] = folder
    return Layout(found.get("train"), found.get("validation"), found.get("test"))


def what_lies_there(folder: Path) -> str:
    """Of a folder without classes, what it holds in their place and the way out; '' if unknown."""
    files = [entry for entry in folder.iterdir() if not is_foreign(entry.name) and entry.is_file()]
    images = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    tables = sorted(file.name for file in files if file.suffix.lower() == ".csv")
    archives = sorted(file.name for file in files if file.name.lower().endswith(_ARCHIVES))
    for inner in class_folders(folder):
        if len(class_folders(inner)) > 1:
            return f"; {printable(str(inner))} holds some: give that"
    if images and tables:
        return (
            f"; images lie in it directly, beside {printable(tables[0])}: if that names their "
            f"classes, add --labels {printable(str(folder / tables[0]))}"
        )
    if images:
        return (
            f"; {pluralize(len(images), 'image')} in it directly: move those of each class to a "
            "folder named after it, or list them in a table of path,label and give --labels"
        )
    return f"; unpack {printable(archives[0])} first" if archives else ""


def _holds_class_folders(folder: Path) -> bool:
    return bool(class_folders(folder)) and not any(
        entry.name.lower().endswith(SUFFIXES) and not is_foreign(entry.name)
        for entry in folder.iterdir()
    )


def _has_image(folder: Path) -> bool:
    return next(image_files(folder), None) is not None


def _ambiguous(root: Path, named: list[Path], all_folders: list[Path]) -> InputError:
    splits = " and ".join(repr(printable(folder.name)) for folder in named)
    classes = ", ".join(repr(printable(folder.name)) for folder in sorted(all_folders))
    return InputError(
        f"{printable(str(root))} can be read in two ways: with {splits} as splits, which should "
        f"then hold a folder of images a class, or with the classes {classes}, which should then "
        "hold images themselves and stand in a folder 'train': arrange it as one of them"
    )
