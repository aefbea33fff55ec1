"""torchvision's data sets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.preprocessing import to_pixels
from isoserve.models.torchvision_import import import_torchvision
from isoserve.training.pixel_arrays import allocate

Split = Literal["train", "test"]


def load_named_set(
    name: str, split: Split, spec: InputSpec, data_root: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Pixels [N, H, W, 3], labels [N] and class names of a set of :data:`NAMED_SETS`.

    Raises:
        InputError: it is not in ``data_root``, and could not be downloaded.
    """
    datasets = import_torchvision("torchvision.datasets")
    class_name, options, classes = NAMED_SETS[name]
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
    pixels = allocate((len(raw), spec.height, spec.width, 3))
    for index, image in enumerate(raw):
        pixels[index] = to_pixels(Image.fromarray(image), spec)
    names = classes or tuple(dataset.classes)  # type: ignore[attr-defined]
    return pixels, np.asarray(labels, dtype=np.int64), names


def _by_flag(split: Split) -> dict[str, object]:
    return {"train": split == "train"}


def _by_word(split: Split) -> dict[str, object]:
    return {"split": split}


NAMED_SETS: dict[str, tuple[str, Callable[[Split], dict[str, object]], tuple[str, ...] | None]] = {
    "cifar10": ("CIFAR10", _by_flag, None),
    "cifar100": ("CIFAR100", _by_flag, None),
    "fashionmnist": ("FashionMNIST", _by_flag, None),
    "svhn": ("SVHN", _by_word, tuple("0123456789")),
}
