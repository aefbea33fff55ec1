"""Images of what the network was never taught: named sets, folders, and noise.

Every image takes the path of :mod:`isoserve.models.preprocessing`, as in training and serving.
How a set was compressed and resized before it came here shows in the score as much as what it
depicts: hold in- and out-of-distribution images to the same history, or say where they differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.image_files.folder import SUFFIXES, LeftOut, describe_left_out
from isoserve.models.preprocessing import to_pixels
from isoserve.models.text import printable
from isoserve.training.data import list_images, load_images, read_images
from isoserve.training.hold_out import evenly_spread
from isoserve.training.layout import NAMES, class_folders
from isoserve.training.overlaps import without_known

NOISE_IMAGES = 10_000
"""Images of a noise set where no limit is given; as many as the papers' other sets have."""

NAMED_SETS = ("cifar10", "cifar100", "fashionmnist", "svhn")
"""Their test splits, by torchvision."""

FOLDERS: dict[str, tuple[str, ...]] = {
    "tinyimagenet": ("Imagenet_resize", "tinyimagenet", "TinyImageNet"),
    "lsun": ("LSUN_resize", "lsun", "LSUN"),
}
"""Sets that cannot be downloaded -> folders they are looked for in; ODIN's archives come first."""


@dataclass(frozen=True)
class OutDistribution:
    """Images without labels, ready for the network."""

    name: str
    pixels: NDArray[np.uint8]
    """[N, H, W, 3], RGB."""
    note: str = ""
    """How the images were made, resized and compressed before they came here."""
    skipped: tuple[str, ...] = ()
    """A line for each file or folder that could not be read: its path and why."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Files whose ending is not an image's."""

    def __len__(self) -> int:
        return len(self.pixels)

    def digest(self) -> str:
        """SHA-256 over the pixels, in order."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()


def load_out_distributions(
    sources: Iterable[str],
    spec: InputSpec,
    data_root: Path,
    limit: int | None = None,
    classes: Sequence[str] = (),
) -> list[OutDistribution]:
    """Load several, each as :func:`load_out_distribution`.

    Raises:
        InputError: one is not there, or two have the same name.
    """
    found = [load_out_distribution(source, spec, data_root, limit, classes) for source in sources]
    check_names(found)
    return found


def check_names(found: Sequence[OutDistribution], *taken: str) -> None:
    """Refuse two of one name, which figures and tables could not tell apart."""
    seen = set(taken)
    for out in found:
        if out.name in seen:
            raise InputError(f"two out-distributions named {out.name!r}: give one as NAME=SOURCE")
        seen.add(out.name)


def load_out_distribution(
    source: str,
    spec: InputSpec,
    data_root: Path,
    limit: int | None = None,
    classes: Sequence[str] = (),
) -> OutDistribution:
    """Load an out-distribution.

    Args:
        source: ``gaussian`` or ``uniform``; ``cifar10``, ``cifar100``, ``svhn``, ``fashionmnist``
            (test splits); ``tinyimagenet`` or ``lsun``, as ODIN's archives unpack under
            ``data_root``; or any folder of images, flat or nested, of which only ``test`` is read
            if it has one. ``NAME=SOURCE`` gives it another name.
        spec: the pixels wanted.
        data_root: where named sets are looked for.
        limit: at most so many images, drawn evenly from a larger set; the same ones each time.
        classes: the in-distribution's; images of them are left out of sets that are known to hold
            some (:mod:`isoserve.training.overlaps`), where folders or the archive's list name them.

    Raises:
        InputError: no such set or folder, or not one readable image in it.
    """
    name, separator, given = source.partition("=")
    if separator and name and given and not Path(source).is_dir():
        if Path(given).is_dir() and given.lower() not in (*_NOISE, *NAMED_SETS, *FOLDERS):
            return _read_folder(name, Path(given), spec, limit, classes)
        found = load_out_distribution(given, spec, data_root, limit, classes)
        return replace(found, name=name)
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1")
    key = source.lower()
    if key in _NOISE:
        return _noise(key, spec, NOISE_IMAGES if limit is None else limit)
    if key in NAMED_SETS:
        images = load_images(key, "test", spec, data_root)
        chosen = images.take(evenly_spread(len(images), limit))
        return OutDistribution(key, chosen.pixels, f"torchvision's {key}, test split")
    if key in FOLDERS:
        return _read_folder(key, _find_folder(key, data_root), spec, limit, classes)
    if not Path(source).is_dir():
        raise InputError(
            f"no out-distribution and no folder named {source!r}; give an image folder or one of "
            f"{', '.join((*_NOISE, *NAMED_SETS, *FOLDERS))}"
        )
    folder = Path(source)
    return _read_folder(printable(folder.resolve().name), folder, spec, limit, classes)


def _gaussian(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    return np.clip(generator.normal(0.5, 1.0, shape), 0.0, 1.0)


def _uniform(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    return generator.random(shape)


Noise = Callable[[np.random.Generator, tuple[int, int, int]], NDArray[np.float64]]

_NOISE: dict[str, tuple[Noise, str]] = {
    "gaussian": (_gaussian, "each value N(0.5, 1), clipped to [0, 1]; made at the input's size"),
    "uniform": (_uniform, "each value U(0, 1); made at the input's size"),
}


def _noise(kind: str, spec: InputSpec, count: int) -> OutDistribution:
    draw, note = _NOISE[kind]
    pixels = np.empty((count, spec.height, spec.width, 3), dtype=np.uint8)
    for index in range(count):
        # Seeded by the index: the first n images are the same whatever the count.
        generator = np.random.default_rng([*kind.encode(), index])
        values = np.round(255 * draw(generator, (spec.height, spec.width, 3))).astype(np.uint8)
        pixels[index] = to_pixels(Image.fromarray(values), spec)
    return OutDistribution(kind, pixels, f"{note}; uncompressed")


def _find_folder(name: str, data_root: Path) -> Path:
    for folder in FOLDERS[name]:
        if (data_root / folder).is_dir():
            return data_root / folder
    raise InputError(
        f"{name} is not in {data_root}: unpack ODIN's archive so that "
        f"{data_root / FOLDERS[name][0]} is a folder, or give {name}=FOLDER"
    )


def _read_folder(
    name: str, folder: Path, spec: InputSpec, limit: int | None, classes: Sequence[str]
) -> OutDistribution:
    tests = [path for path in class_folders(folder) if NAMES.get(path.name.lower()) == "test"]
    root = tests[0] if tests else folder
    left_out = LeftOut()
    paths, unlisted = list_images(root, left_out)
    if not paths:
        line = describe_left_out(left_out)
        raise InputError(
            f"no images in {root}: looked for {', '.join(SUFFIXES)}" + (f"; {line}" if line else "")
        )
    paths, own = without_known(name, paths, classes)
    if not paths:
        raise InputError(f"every image in {root} is of one of the model's own classes")
    paths = [paths[index] for index in evenly_spread(len(paths), limit)]
    pixels, readable, unread = read_images(paths, spec)
    if not readable.any():
        raise InputError(f"not one readable image in {root}: {unread[0]}")
    suffixes = sorted({path.suffix.lower().lstrip(".") for path in paths})
    note = "; ".join(part for part in (f"folder of {', '.join(suffixes)} files", own) if part)
    return OutDistribution(name, pixels, note, (*unlisted, *unread), left_out)
