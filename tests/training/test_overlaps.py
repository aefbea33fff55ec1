"""Images of an out-distribution that show the model's own classes are left out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_bytes import colour

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.out_distributions import load_out_distribution
from isoserve.training.overlaps import known_classes

SPEC = InputSpec(height=8, width=8)
CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def _image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(colour(shade, shade, shade))


def _shades(pixels: np.ndarray) -> list[int]:
    return sorted(pixels[:, 0, 0, 0].tolist())


def test_the_list_names_known_classes_and_gives_reasons() -> None:
    found = known_classes("tinyimagenet", CIFAR10)
    assert len(found) == 23
    assert found["n02124075"].known_as == "cat"
    assert all(each.known_as in CIFAR10 and each.reason for each in found.values())
    assert "n02129165" not in found  # a lion is not one of CIFAR-10's cats
    assert known_classes("tinyimagenet", ("shirt", "hat")) == {}
    assert {each.known_as for each in known_classes("TIN", ("dog", "hat")).values()} == {"dog"}
    assert known_classes("textures", CIFAR10) == {}


def test_folders_named_by_class_are_cleaned(tmp_path: Path) -> None:
    folder = tmp_path / "tinyimagenet"
    for wnid, shade in (("n02124075", 10), ("n02129165", 20), ("n04146614", 30)):
        _image(folder / wnid / "images" / f"{wnid}_0.png", shade)
    found = load_out_distribution(str(folder), SPEC, tmp_path, None, CIFAR10)
    assert _shades(found.pixels) == [20, 30]
    assert "without 1 image of the model's own classes" in found.note
    assert len(load_out_distribution(str(folder), SPEC, tmp_path)) == 3
    assert len(load_out_distribution(str(folder), SPEC, tmp_path, None, ("shirt",))) == 3
    assert len(load_out_distribution(f"other={folder}", SPEC, tmp_path, None, CIFAR10)) == 3
    assert len(load_out_distribution(f"tin={folder}", SPEC, tmp_path, None, CIFAR10)) == 2


def test_the_archives_list_of_its_validation_images_is_read(tmp_path: Path) -> None:
    root = tmp_path / "val"
    _image(root / "images" / "val_0.png", 10)
    _image(root / "images" / "val_1.png", 20)
    (root / "val_annotations.txt").write_text(
        "val_0.png\tn03100240\t0\t0\nval_1.png\tn04146614\t1\t1\n"
    )
    found = load_out_distribution(f"tinyimagenet={root}", SPEC, tmp_path, None, CIFAR10)
    assert _shades(found.pixels) == [20]


def test_images_without_class_names_stay_and_the_note_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "tinyimagenet"
    _image(folder / "unlabelled" / "0.png", 10)
    found = load_out_distribution(str(folder), SPEC, tmp_path, None, CIFAR10)
    assert len(found) == 1
    assert "no class names: 23 classes of the original set are the model's own" in found.note


def test_a_set_of_nothing_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tinyimagenet"
    _image(folder / "n02124075" / "0.png", 10)
    with pytest.raises(InputError, match="own classes"):
        load_out_distribution(str(folder), SPEC, tmp_path, None, CIFAR10)
