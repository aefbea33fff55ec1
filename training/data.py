"""Labelled images: torchvision's data sets by name, or any image folder.

Every image, of whatever source, takes the one path of :mod:`isoserve.models.preprocessing` to the
network's input, and a set is held as one uint8 array, so that an epoch costs no decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES, LeftOut, describe_left_out, image_files
from isoserve.models.text import pluralize, printable
from isoserve.training.hold_out import held_out_count, hold_out, smallest_calibration
from isoserve.training.layout import class_folders, read_layout, what_lies_there
from isoserve.training.named_sets import NAMED_SETS, Split, load_named_set
from isoserve.training.pixel_arrays import chosen, decode_bodies, decode_files

if TYPE_CHECKING:
    from isoserve.training.recipe import Recipe


@dataclass(frozen=True)
class LabelledImages:
    """Images of one split, ready for the network."""

    name: str
    pixels: NDArray[np.uint8]
    """[N, H, W, 3], RGB."""
    labels: NDArray[np.int64]
    """[N], index into ``classes``."""
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    """A line for each file or folder that could not be read: its path and why."""
    paths: tuple[str, ...] = ()
    """Of each image's file; empty where they come from none."""
    digests: tuple[bytes, ...] = ()
    """Of each file's bytes; empty where they come from none."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Files whose ending is not an image's."""
    calibration: LabelledImages | None = None
    """Images of the same classes that are set aside to calibrate on, where the data bring some."""
    _splits: dict[tuple[object, ...], tuple[LabelledImages, LabelledImages]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What :func:`split` made of these images: each of its callers would hold a copy else."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        """Those at the indices, in their order; a view where they are consecutive."""
        return LabelledImages(
            self.name,
            chosen(self.pixels, indices),
            self.labels[indices],
            self.classes,
            paths=tuple(self.paths[index] for index in indices) if self.paths else (),
            digests=tuple(self.digests[index] for index in indices) if self.digests else (),
        )

    def calibrated_by(self, held_out: LabelledImages) -> LabelledImages:
        """The same images, to be calibrated on others of the same classes.

        Raises:
            InputError: the classes differ.
        """
        if held_out.classes != self.classes:
            missing = sorted(set(self.classes) - set(held_out.classes))
            other = sorted(set(held_out.classes) - set(self.classes))
            raise InputError(
                f"the calibration images of {held_out.name} have other classes than the training "
                f"images of {self.name}: "
                + "; ".join(
                    f"{what} {', '.join(names)}"
                    for what, names in (("without", missing), ("beside them", other))
                    if names
                )
            )
        return replace(self, calibration=held_out)

    def digest(self) -> str:
        """SHA-256 over class names, labels and pixels, in order; the calibration images' too."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        for image in self.pixels:
            digest.update(image.tobytes())
        if self.calibration is not None:
            digest.update(self.calibration.digest().encode())
        return digest.hexdigest()


def load_images(source: str, split: Split, spec: InputSpec, data_root: Path) -> LabelledImages:
    """Load a split of a named data set or of an image folder.

    Args:
        source: ``cifar10``, ``cifar100``, ``svhn``, ``fashionmnist``, or a folder holding
            ``train/CLASS/*`` and optionally ``val/CLASS/*`` (to calibrate on) and
            ``test/CLASS/*``, or just ``CLASS/*``; see :mod:`isoserve.training.layout`.
        split: which part of it.
        spec: the pixels wanted.
        data_root: where named data sets are looked for first, then downloaded to.

    Raises:
        InputError: no such folder or data set, fewer than two classes, a class without a
            readable image, or no test images where they are asked for.
    """
    if source.lower() in NAMED_SETS:
        pixels, labels, classes = load_named_set(source.lower(), split, spec, data_root)
        return LabelledImages(source.lower(), pixels, labels, classes)
    root = Path(source)
    if not root.is_dir():
        raise InputError(
            f"no data set and no folder named {source!r}; give an image folder or one of "
            f"{', '.join(NAMED_SETS)}"
        )
    return _load_split(root, split, spec)


def split(images: LabelledImages, recipe: Recipe) -> tuple[LabelledImages, LabelledImages]:
    """(training, held-out) images: the calibration images that the data bring, else the recipe's
    share. The same objects at each call.

    Raises:
        InputError: too few images to hold out what calibration needs.
    """
    needed = smallest_calibration(recipe.alpha, recipe.delta)
    if images.calibration is not None:
        if len(images.calibration) < needed:
            raise InputError(
                f"{len(images.calibration)} calibration images in {images.calibration.name} are "
                f"too few: at alpha {recipe.alpha} and delta {recipe.delta} {needed} are needed"
            )
        return images, images.calibration
    key = (recipe.alpha, recipe.delta, recipe.held_out, recipe.seed)
    if key not in images._splits:
        images._splits[key] = _split(images, recipe, needed)
    return images._splits[key]


def _split(
    images: LabelledImages, recipe: Recipe, needed: int
) -> tuple[LabelledImages, LabelledImages]:
    first = held_out_count(len(images), recipe.held_out, recipe.alpha, recipe.delta)
    # Shares rounded down a class may sum to less than is needed; then more is asked for.
    for count in range(first, len(images) + 1):
        training, held_out = hold_out(images.labels, count, recipe.seed)
        if len(held_out) >= needed:
            return images.take(training), images.take(held_out)
    raise InputError(
        f"{len(images)} images of {len(images.classes)} classes are too few to calibrate: at alpha "
        f"{recipe.alpha} and delta {recipe.delta} {needed} must be held out and one of each class "
        "left to train on"
    )


def list_images(folder: Path, left_out: LeftOut | None = None) -> tuple[list[Path], list[str]]:
    """The images below a folder in order, and a line for each folder that cannot be listed."""
    unlisted: list[str] = []

    def note(error: OSError) -> None:
        unlisted.append(printable(f"{error.filename}: {error.strerror}"))

    return sorted(image_files(folder, note, left_out)), unlisted


def read_images(
    paths: Sequence[Path], spec: InputSpec
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Pixels of the files that can be read, which of them these are, and a line for each other."""
    pixels, reasons = decode_files(paths, spec)
    pixels, readable = _without_unread(pixels, reasons)
    unread = [printable(f"{path}: {why}") for path, why in zip(paths, reasons, strict=True) if why]
    return pixels, readable, unread


def _without_unread(
    pixels: NDArray[np.uint8], reasons: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    readable = np.array([not reason for reason in reasons], dtype=bool)
    if not readable.all():
        pixels = chosen(pixels, np.flatnonzero(readable))
    return pixels, readable


def _load_split(root: Path, split: Split, spec: InputSpec) -> LabelledImages:
    layout = read_layout(root)
    folder = layout.test if split == "test" else layout.train
    if folder is None:
        there = [path.name for path in layout if path is not None and path != root]
        raise InputError(
            f"no {'test' if split == 'test' else 'training'} images: {root / split} is not a folder"
            + (f"; {root} holds {', '.join(there)}" if there else "")
        )
    found = load_class_folders(folder, spec)
    if split == "train" and layout.validation is not None:
        found = found.calibrated_by(load_class_folders(layout.validation, spec))
    return replace(found, name=printable(root.resolve().name))


def load_class_folders(folder: Path, spec: InputSpec) -> LabelledImages:
    """Load ``folder/CLASS/*``; classes in the folders' alphabetical order.

    Raises:
        InputError: no such folder, fewer than two classes, a class without a readable image, or
            one whose name is not UTF-8, as the card's are.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give one that holds a folder of images per class")
    names = [entry.name for entry in class_folders(folder)]
    if len(names) < 2:
        raise InputError(
            f"{folder} holds {pluralize(len(names), 'class folder')}; "
            "a classifier needs at least two, each a folder of images" + what_lies_there(folder)
        )
    for name in names:
        if printable(name) != name:
            raise InputError(
                f"class folder {printable(name)!r} in {printable(str(folder))} has a name that is "
                "not UTF-8; rename it"
            )
    paths, labels, skipped, left_out = [], [], [], LeftOut()
    for label, name in enumerate(names):
        files, missed = list_images(folder / name, left_out)
        paths += files
        labels += [label] * len(files)
        skipped += missed
    files_of = LabelledFiles(
        paths, [str(path) for path in paths], np.array(labels, dtype=np.int64), tuple(names)
    )
    found = read_labelled(files_of, spec, printable(folder.resolve().name))
    found = replace(found, skipped=(*skipped, *found.skipped), left_out=left_out)
    check_classes_read(found, str(folder))
    return found


@dataclass(frozen=True)
class LabelledFiles:
    """Image files and their classes, not yet read."""

    sources: Sequence[Path | bytes]
    """Paths, or the files' own bytes."""
    names: Sequence[str]
    """For messages, one for each."""
    labels: NDArray[np.int64]
    """[N], index into ``classes``."""
    classes: tuple[str, ...]


def read_labelled(files: LabelledFiles, spec: InputSpec, name: str) -> LabelledImages:
    """Decode labelled files; one that cannot be read is named in ``skipped``."""
    pixels, reasons, digests = decode_bodies(files.sources, len(files.labels), spec)
    pixels, readable = _without_unread(pixels, reasons)
    rows = np.flatnonzero(readable)
    return LabelledImages(
        name,
        pixels,
        files.labels[rows],
        files.classes,
        tuple(
            printable(f"{file}: {why}")
            for file, why in zip(files.names, reasons, strict=True)
            if why
        ),
        paths=tuple(files.names[int(row)] for row in rows),
        digests=tuple(digests[row] for row in rows),
    )


def check_classes_read(found: LabelledImages, where: str) -> None:
    """Refuse a class without a readable image.

    Raises:
        InputError: the first such class, and why.
    """
    counts = np.bincount(found.labels, minlength=len(found.classes))
    if counts.all():
        return
    words = [f"looked for {', '.join(SUFFIXES)}"]
    if found.skipped:
        words.append(f"{len(found.skipped)} unreadable, the first {found.skipped[0]}")
    if line := describe_left_out(found.left_out):
        words.append(line)
    name = found.classes[int(np.argmin(counts))]
    raise InputError(f"class {name!r} has no readable image in {where} ({'; '.join(words)})")
