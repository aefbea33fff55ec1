"""Labelled images: torchvision's data sets by name, or any image folder.

Every image, of whatever source, takes the one path of :mod:`isoserve.models.preprocessing` to the
network's input, and a set is held as one uint8 array, so that an epoch costs no decoding.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import beta

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError, InputError
from isoserve.models.image_files.folder import SUFFIXES, image_files
from isoserve.models.preprocessing import decode_pixels, to_pixels
from isoserve.models.text import pluralize, printable
from isoserve.models.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from isoserve.training.recipe import Recipe

Split = Literal["train", "test"]

_IN_MEMORY_BYTES = 4 << 30


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

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> LabelledImages:
        pixels = _chosen(self.pixels, indices)
        return LabelledImages(self.name, pixels, self.labels[indices], self.classes)

    def digest(self) -> str:
        """SHA-256 over class names, labels and pixels, in order."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        for image in self.pixels:
            digest.update(image.tobytes())
        return digest.hexdigest()


def load_images(source: str, split: Split, spec: InputSpec, data_root: Path) -> LabelledImages:
    """Load a split of a named data set or of an image folder.

    Args:
        source: ``cifar10``, ``cifar100``, ``svhn``, ``fashionmnist``, or a folder holding
            ``train/CLASS/*`` and optionally ``test/CLASS/*``, or just ``CLASS/*``.
        split: which part of it.
        spec: the pixels wanted.
        data_root: where named data sets are looked for first, then downloaded to.

    Raises:
        InputError: no such folder or data set, fewer than two classes, a class without a
            readable image, or no test images where they are asked for.
    """
    if source.lower() in _NAMED:
        return _load_named(source.lower(), split, spec, data_root)
    root = Path(source)
    if not root.is_dir():
        raise InputError(
            f"no data set and no folder named {source!r}; give an image folder or one of "
            f"{', '.join(_NAMED)}"
        )
    return _load_split(root, split, spec)


def split(images: LabelledImages, recipe: Recipe) -> tuple[LabelledImages, LabelledImages]:
    """The recipe's (training, held-out) split of a training set.

    Raises:
        InputError: too few images to hold out what calibration needs.
    """
    needed = smallest_calibration(recipe.alpha, recipe.delta)
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


def hold_out(
    labels: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices into (training, held out), stratified by class and fixed by the seed.

    Each class gives its share of ``count``, at least one image and never its last.
    """
    generator = np.random.default_rng([seed, len(labels)])
    held_out = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        share = round(count * len(members) / len(labels))
        held_out.append(members[: min(max(share, 1), len(members) - 1)])
    chosen = np.sort(np.concatenate(held_out))
    mask = np.ones(len(labels), dtype=bool)
    mask[chosen] = False
    return np.flatnonzero(mask), chosen


def held_out_count(total: int, fraction: float, alpha: float, delta: float) -> int:
    """How many of ``total`` images to hold out: the fraction, but enough to calibrate.

    Raises:
        InputError: calibration would take more than half of the images.
    """
    needed = smallest_calibration(alpha, delta)
    if needed > total // 2:
        raise InputError(
            f"{total} training images are too few to calibrate: at alpha {alpha} and delta "
            f"{delta} at least {needed} must be held out, so give at least {2 * needed} images "
            "or a larger alpha"
        )
    return max(round(fraction * total), needed)


def smallest_calibration(alpha: float, delta: float) -> int:
    """Fewest calibration images n with P(rejected share <= alpha) >= 1 - delta possible.

    The share at the smallest score is Beta(1, n) (Bates et al., 2023): 59 at alpha = delta = 0.05.
    """
    n = 1
    while beta.cdf(alpha, 1, n) < 1 - delta:
        n += 1
    return n


def decode_files(paths: Sequence[Path], spec: InputSpec) -> tuple[NDArray[np.uint8], list[str]]:
    """Decode files in threads -> pixels [N, H, W, 3] and a reason for each file ('' where read)."""
    shape = (len(paths), spec.height, spec.width, 3)
    pixels = _allocate(shape)

    def decode(index: int) -> str:
        try:
            pixels[index] = decode_pixels(paths[index].read_bytes(), spec)
        except (ImageFileError, OSError) as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        return pixels, list(pool.map(decode, range(len(paths))))


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The images below a folder in order, and a line for each folder that cannot be listed."""
    unlisted: list[str] = []

    def note(error: OSError) -> None:
        unlisted.append(printable(f"{error.filename}: {error.strerror}"))

    return sorted(image_files(folder, note)), unlisted


def read_images(
    paths: Sequence[Path], spec: InputSpec
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Pixels of the files that can be read, which of them these are, and a line for each other."""
    pixels, reasons = decode_files(paths, spec)
    readable = np.array([not reason for reason in reasons], dtype=bool)
    if not readable.all():
        pixels = _chosen(pixels, np.flatnonzero(readable))
    unread = [printable(f"{path}: {why}") for path, why in zip(paths, reasons, strict=True) if why]
    return pixels, readable, unread


def evenly_spread(count: int, limit: int | None) -> NDArray[np.int64]:
    """Indices of ``limit`` of ``count`` images in order: folders come class by class."""
    wanted = count if limit is None else min(count, limit)
    return np.arange(wanted) * count // wanted


def _load_split(root: Path, split: Split, spec: InputSpec) -> LabelledImages:
    folder = root / split
    if split == "test" and not folder.is_dir():
        raise InputError(f"no test images: {folder} is not a folder")
    found = load_class_folders(folder if folder.is_dir() else root, spec)
    return replace(found, name=printable(root.resolve().name))


def load_class_folders(folder: Path, spec: InputSpec) -> LabelledImages:
    """Load ``folder/CLASS/*``; classes in the folders' alphabetical order.

    Raises:
        InputError: no such folder, fewer than two classes, a class without a readable image, or
            one whose name is not UTF-8, as the card's are.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give one that holds a folder of images a class")
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if len(names) < 2:
        raise InputError(
            f"{folder} holds {pluralize(len(names), 'class folder')}; "
            "a classifier needs at least two, each a folder of images"
        )
    for name in names:
        if printable(name) != name:
            raise InputError(
                f"class folder {printable(name)!r} in {printable(str(folder))} has a name that is "
                "not UTF-8; rename it"
            )
    paths, labels, unlisted = [], [], []
    for label, name in enumerate(names):
        files, missed = list_images(folder / name)
        paths += files
        labels += [label] * len(files)
        unlisted += missed
    pixels, readable, unread = read_images(paths, spec)
    kept = np.array(labels, dtype=np.int64)[readable]
    skipped = (*unlisted, *unread)
    for label, name in enumerate(names):
        if not np.any(kept == label):
            raise InputError(
                f"class {name!r} has no readable image in {folder / name} "
                f"(looked for {', '.join(SUFFIXES)}"
                + (f"; {len(skipped)} unreadable, the first {skipped[0]})" if skipped else ")")
            )
    name = printable(folder.resolve().name)
    return LabelledImages(name, pixels, kept, tuple(names), skipped)


def _load_named(name: str, split: Split, spec: InputSpec, data_root: Path) -> LabelledImages:
    datasets = import_torchvision("torchvision.datasets")
    class_name, options, classes = _NAMED[name]
    wanted = options(split)
    make: Callable[..., object] = getattr(datasets, class_name)
    try:
        dataset = make(root=data_root, download=False, **wanted)
    except RuntimeError:
        try:
            dataset = make(root=data_root, download=True, **wanted)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{class_name} is not in {data_root} and could not be downloaded ({error}); "
                "put torchvision's files there or give an image folder"
            ) from error
    raw = np.asarray(dataset.data)  # type: ignore[attr-defined]
    if name == "svhn":
        raw = raw.transpose(0, 2, 3, 1)
    labels = dataset.labels if name == "svhn" else dataset.targets  # type: ignore[attr-defined]
    pixels = _allocate((len(raw), spec.height, spec.width, 3))
    for index, image in enumerate(raw):
        pixels[index] = to_pixels(Image.fromarray(image), spec)
    names = classes or tuple(dataset.classes)  # type: ignore[attr-defined]
    return LabelledImages(name, pixels, np.asarray(labels, dtype=np.int64), names)


def _by_flag(split: Split) -> dict[str, object]:
    return {"train": split == "train"}


def _by_word(split: Split) -> dict[str, object]:
    return {"split": split}


_NAMED: dict[str, tuple[str, Callable[[Split], dict[str, object]], tuple[str, ...] | None]] = {
    "cifar10": ("CIFAR10", _by_flag, None),
    "cifar100": ("CIFAR100", _by_flag, None),
    "fashionmnist": ("FashionMNIST", _by_flag, None),
    "svhn": ("SVHN", _by_word, tuple("0123456789")),
}


def _allocate(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """An array in memory, or in an unnamed temporary file where it would not fit well."""
    size = math.prod(shape)
    if size <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        # A disk that is full is an error here; later it would be the end of the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def _chosen(pixels: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """``pixels[indices]``, which of a large set would be a copy in memory."""
    height, width, channels = pixels.shape[1:]
    found = _allocate((len(indices), height, width, channels))
    for place, index in enumerate(indices):
        found[place] = pixels[index]
    return found
