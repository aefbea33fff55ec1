"""The out-distributions of OpenOOD v1.5's CIFAR-10 benchmark, as they are found on a disk.

Zhang et al., "OpenOOD v1.5: Enhanced Benchmark for Out-of-Distribution Detection", 2023. Nothing
is downloaded: what is not there is reported as missing, and the table says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import list_images, read_images
from isoserve.training.hold_out import evenly_spread
from isoserve.training.out_distributions import OutDistribution, load_out_distribution

Group = Literal["near", "far"]


@dataclass(frozen=True)
class ProtocolSet:
    """One set of the benchmark."""

    name: str
    group: Group
    listed_as: str
    """In the name of the benchmark's own list, ``test_NAME.txt``."""
    also_called: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    """Sets of the same kind that take its place where it is missing, best first."""
    torchvision: str = ""
    """The file or folder by which torchvision's copy below the data root is known."""

    def is_called(self, name: str) -> bool:
        return name.lower() in (self.name, *self.also_called)


PROTOCOL: tuple[ProtocolSet, ...] = (
    ProtocolSet(
        "cifar100", "near", "cifar100", stand_ins=("jigsaw",), torchvision="cifar-100-python"
    ),
    ProtocolSet("tin", "near", "tin", also_called=("tinyimagenet",)),
    ProtocolSet("mnist", "far", "mnist", stand_ins=("notmnist", "fashionmnist", "strokes")),
    ProtocolSet("svhn", "far", "svhn", torchvision="test_32x32.mat"),
    ProtocolSet(
        "textures", "far", "texture", also_called=("texture", "dtd"), stand_ins=("gratings",)
    ),
    ProtocolSet(
        "places365",
        "far",
        "places365",
        also_called=("places", "place365"),
        stand_ins=("scenes", "lsun"),
    ),
)

_LISTS = Path("benchmark_imglist", "cifar10")
_IMAGES = Path("images_classic")
"""Where OpenOOD's own download keeps its lists and the images that they name."""


def canonical(source: str) -> str:
    """A ``SOURCE`` or ``NAME=SOURCE`` under the benchmark's name, if it is one of its sets."""
    name, separator, given = source.partition("=")
    if not separator or Path(source).is_dir():
        name, given = Path(source).name, source
    for each in PROTOCOL:
        if each.is_called(name):
            return f"{each.name}={given}"
    return source


def find_on_disk(
    wanted: ProtocolSet,
    spec: InputSpec,
    data_root: Path,
    limit: int | None,
    classes: tuple[str, ...],
) -> OutDistribution | None:
    """The set below ``data_root``, or None.

    It is looked for as OpenOOD's own list of test images, as a folder of its name, and as
    torchvision's files.

    Raises:
        InputError: it is there and cannot be read.
    """
    listed = data_root / _LISTS / f"test_{wanted.listed_as}.txt"
    if listed.is_file():
        return _read_listed(wanted.name, listed, data_root / _IMAGES, spec, limit)
    for name in (wanted.name, *wanted.also_called):
        folder = data_root / name
        if folder.is_dir() and list_images(folder)[0]:
            return load_out_distribution(f"{wanted.name}={folder}", spec, data_root, limit, classes)
    if wanted.torchvision and (data_root / wanted.torchvision).exists():
        return load_out_distribution(wanted.name, spec, data_root, limit, classes)
    return None


def _read_listed(
    name: str, listed: Path, images: Path, spec: InputSpec, limit: int | None
) -> OutDistribution:
    """Images that a list names: a line each, the path below ``images`` and a label."""
    lines = listed.read_text(encoding="utf-8").splitlines()
    paths = [images / line.split(maxsplit=1)[0] for line in lines if line.strip()]
    if not paths:
        raise InputError(f"{listed} names no image")
    outside = [path for path in paths if ".." in path.parts or not path.is_relative_to(images)]
    if outside:
        raise InputError(f"{listed} names {outside[0]}, which is not below {images}")
    paths = [paths[index] for index in evenly_spread(len(paths), limit)]
    pixels, readable, unread = read_images(paths, spec)
    if not readable.any():
        raise InputError(f"not one readable image of {listed} in {images}: {unread[0]}")
    return OutDistribution(name, pixels, f"OpenOOD's own list {listed.name}", tuple(unread))


def shown_for(wanted: ProtocolSet, names: list[str]) -> str:
    """Which of the out-distributions ``names`` is the set, or stands in for it; "" for none."""
    known = {name.lower(): name for name in reversed(names)}
    return next((known[name] for name in (wanted.name, *wanted.stand_ins) if name in known), "")


def how_to_give(wanted: ProtocolSet) -> str:
    """What a row says of a missing set."""
    return f"missing: no {wanted.name} below --data-root and no --out-data {wanted.name}=FOLDER"
