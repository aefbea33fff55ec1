"""Folders as people have them: which are splits, which classes, and what is not an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages, load_images, split
from isoserve.training.layout import read_layout
from isoserve.training.out_distributions import load_out_distribution
from isoserve.training.recipe import Recipe
from isoserve.training.skipped import report_skipped

SPEC = InputSpec(height=4, width=4)


def fill(root: Path, *folders: str, images: int = 1) -> Path:
    """An image of its own in each folder, or several."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            pixels = np.full((4, 4, 3), (number, index % 256, index // 256), np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def load(root: Path, part: str = "train") -> LabelledImages:
    return load_images(str(root), "test" if part == "test" else "train", SPEC, Path("unused"))


@pytest.mark.parametrize("train", ["train", "training", "Train", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Testing", "TEST"])
@pytest.mark.parametrize("validation", ["val", "valid", "Validation", None])
def test_splits_are_known_by_their_names_in_any_case(
    tmp_path: Path, train: str, test: str, validation: str | None
) -> None:
    fill(tmp_path, f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b")
    if validation:
        fill(tmp_path, f"{validation}/a", f"{validation}/b")
    layout = read_layout(tmp_path)
    assert layout.train == tmp_path / train
    assert layout.test == tmp_path / test
    assert layout.validation == (tmp_path / validation if validation else None)
    images = load(tmp_path)
    assert images.classes == load(tmp_path, "test").classes == ("a", "b")
    assert (images.calibration is not None) == (validation is not None)


@pytest.mark.parametrize(
    "folders",
    [
        ("Train", "Test"),  # images in both, and no class
        ("train", "test", "val"),
        ("train/a", "train/b", "car"),
        ("train", "test/a", "test/b"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_both(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    fill(tmp_path, *folders)
    with pytest.raises(InputError, match=r"two ways: with '.* as splits.* classes '"):
        load(tmp_path)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b", "Training/a", "Training/b")
    with pytest.raises(InputError, match="two folders of train images, 'Training' and 'train'"):
        load(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert load(fill(tmp_path / "flat", "train", "car", "test")).classes == ("car", "test", "train")
    nested = fill(tmp_path / "nested", "train/train", "train/car", "test/train", "test/car")
    assert load(nested).classes == load(nested, "test").classes == ("car", "train")


def test_a_missing_split_is_named_with_what_is_there(tmp_path: Path) -> None:
    fill(tmp_path, "Test/a", "Test/b", "val/a", "val/b")
    with pytest.raises(InputError, match=r"no training images: .* holds val, Test"):
        load(tmp_path)


NETWORK_DRIVE = ("@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", ".hidden", "lost+found")


def test_what_network_drives_and_archives_leave_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", *NETWORK_DRIVE, *(f"a/{name}" for name in NETWORK_DRIVE))
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / "._1.png").write_bytes(b"x")
    images = load(tmp_path)
    assert images.classes == ("a", "b")
    assert len(images) == 2
    assert images.left_out == {}


def test_files_left_out_are_counted_by_their_ending(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    for name in ("a/1.xcf", "a/2.XCF", "b/3.xcf", "b/notes.txt", "b/deeper/4.xcf", "b/README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    said: list[str] = []
    report_skipped(
        load(tmp_path), load_out_distribution(str(tmp_path), SPEC, tmp_path), say=said.append
    )
    assert said == ["6 files left out: .xcf 4, .txt 1, without an ending 1"] * 2


def test_val_calibrates_and_is_not_copied(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b", "val/a", "val/b", images=40)
    images = load(tmp_path)
    training, held_out = split(images, Recipe())
    assert training is images
    assert held_out is images.calibration
    assert len(held_out) == 80
    few = fill(tmp_path / "few", "train/a", "train/b", "val/a", "val/b", images=20)
    with pytest.raises(InputError, match="40 calibration images in val are too few: .* 59"):
        split(load(few), Recipe())
    other = fill(tmp_path / "other", "train/a", "train/b", "val/a", "val/c")
    with pytest.raises(InputError, match=r"without b; beside them c"):
        load(other)
    assert (
        images.digest() != load(fill(tmp_path / "alone", "train/a", "train/b", images=40)).digest()
    )


def test_the_split_is_made_once_and_a_run_of_images_is_a_view(tmp_path: Path) -> None:
    images = load(fill(tmp_path, "a", "b", images=100))
    assert split(images, Recipe())[0] is split(images, Recipe())[0]
    assert split(images, Recipe())[0] is not split(images, Recipe(seed=1))[0]
    assert np.shares_memory(images.take(np.arange(5, 50)).pixels, images.pixels)
    training, held_out = split(images, Recipe())
    assert set(training.paths).isdisjoint(held_out.paths)
    assert sorted((*training.paths, *held_out.paths)) == sorted(images.paths)


def test_a_folder_without_classes_is_told_what_it_holds_instead(tmp_path: Path) -> None:
    inner = fill(tmp_path / "wrapped", "dataset/train/a", "dataset/test/a") / "dataset"
    flat = fill(tmp_path, "flat", images=3) / "flat"
    listed = fill(tmp_path, "listed") / "listed"
    (listed / "labels.csv").write_text("path,label\n0.png,a\n")
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "photos.zip").write_bytes(b"PK")
    for folder, way_out in {
        inner.parent: f"holds 1 class folder; .*; {inner} holds some: give that$",
        flat: "holds 0 class folders; .*; 3 images in it directly: move those of each class",
        listed: f"beside labels.csv: .* add --labels {listed / 'labels.csv'}$",
        packed: "; unpack photos.zip first$",
    }.items():
        with pytest.raises(InputError, match=way_out):
            load(folder)
