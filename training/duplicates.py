"""The same file in two splits: what is measured or calibrated on it promises too much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isoserve.models.errors import InputError
from isoserve.models.text import pluralize, printable
from isoserve.training.data import LabelledImages, list_images
from isoserve.training.layout import read_layout
from isoserve.training.named_sets import Split
from isoserve.training.pixel_arrays import digest_of


def describe_duplicates(
    images: LabelledImages, kind: str, others: dict[bytes, str], kind_of_others: str
) -> str:
    """A line that counts the files of ``images`` that are among ``others`` too; empty for none.

    Args:
        kind, kind_of_others: what the two are, as ``calibration`` and ``training``.
        others: digest of each file -> its path.
    """
    shared = [
        (path, others[digest])
        for path, digest in zip(images.paths, images.digests, strict=True)
        if digest in others
    ]
    if not shared:
        return ""
    first, other = (printable(path) for path in shared[0])
    return (
        f"{pluralize(len(shared), f'{kind} image')} also among the {kind_of_others} images, the "
        f"first {first} as {other}: what is measured on them promises too much; leave one of each"
    )


def digests_of(images: LabelledImages) -> dict[bytes, str]:
    """Digest of each file -> its path."""
    return dict(zip(images.digests, images.paths, strict=True))


def digests_of_split(source: str, split: Split) -> dict[bytes, str]:
    """The same of a data set's other split, by its files alone; empty where there is none."""
    root = Path(source)
    if not root.is_dir():
        return {}
    try:
        layout = read_layout(root)
    except InputError:
        return {}
    folder = layout.test if split == "test" else layout.train
    if folder is None or folder == root:
        return {}
    return _digests(list_images(folder)[0])


def _digests(paths: Sequence[Path]) -> dict[bytes, str]:
    found = {}
    for path in paths:
        try:
            found[digest_of(path.read_bytes())] = str(path)
        except OSError:  # is named where it is read for its pixels
            continue
    return found
