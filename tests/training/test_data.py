"""Image folders and named sets become arrays; what is wrong is named."""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta

from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.preprocessing import to_pixels
from isoserve.training.data import load_class_folders, load_images
from isoserve.training.hold_out import held_out_count, hold_out, smallest_calibration

SPEC = InputSpec(height=16, width=16)


def test_a_folder_is_read_in_order_through_the_one_path(colours: Path) -> None:
    images = load_images(str(colours), "train", SPEC, Path("unused"))
    assert images.classes == ("blue", "green", "red")
    assert np.bincount(images.labels).tolist() == [60, 60, 60]
    with Image.open(colours / "train" / "green" / "007.png") as image:
        np.testing.assert_array_equal(images.pixels[67], to_pixels(image, SPEC))


def test_a_folder_without_train_is_all_training_images(colours: Path) -> None:
    whole = load_images(str(colours / "train"), "train", SPEC, Path("unused"))
    assert len(whole) == 180
    with pytest.raises(InputError, match="no test images"):
        load_images(str(colours / "train"), "test", SPEC, Path("unused"))


def test_the_digest_tells_images_and_order_apart(colours: Path) -> None:
    images = load_images(str(colours), "test", SPEC, Path("unused"))
    again = load_images(str(colours), "test", SPEC, Path("unused"))
    assert images.digest() == again.digest()
    assert images.digest() != images.take(np.arange(len(images))[::-1]).digest()


def test_a_corrupt_file_is_named_and_skipped(colours: Path, tmp_path: Path) -> None:
    root = shutil.copytree(colours / "test", tmp_path / "images")
    (root / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a JPEG")
    (root / "red" / "notes.txt").write_text("not an image, and not named like one")
    images = load_class_folders(root, SPEC)
    assert len(images) == 90
    assert len(images.skipped) == 1
    assert "broken.jpg" in images.skipped[0]


def test_bad_folders_are_refused_by_name(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set and no folder named 'nowhere'"):
        load_images("nowhere", "train", SPEC, tmp_path)
    (tmp_path / "one" / "only").mkdir(parents=True)
    with pytest.raises(InputError, match="holds 1 class folder;"):
        load_class_folders(tmp_path / "one", SPEC)
    root = shutil.copytree(colours / "test", tmp_path / "images")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="class 'empty' has no readable image"):
        load_class_folders(root, SPEC)
    (root / "empty" / "bad.png").write_bytes(b"no")
    with pytest.raises(InputError, match=r"1 unreadable, the first .*bad\.png"):
        load_class_folders(root, SPEC)


def test_a_class_whose_name_is_not_utf8_is_refused_and_a_file_named_so_is_read(
    colours: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(colours / "test", tmp_path / "images")
    (root / "red" / "000.png").rename(root / "red" / os.fsdecode(b"caf\xe9.png"))
    (root / "red" / os.fsdecode(b"th\xe9.png")).write_bytes(b"no")
    images = load_class_folders(root, SPEC)
    assert len(images) == 90
    assert "th\ufffd.png" in images.skipped[0]
    (root / "red").rename(root / os.fsdecode(b"ros\xe9"))
    with pytest.raises(InputError, match="class folder 'ros\ufffd' in .* not UTF-8; rename it"):
        load_class_folders(root, SPEC)


def test_a_folder_that_cannot_be_listed_is_named(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(colours / "test", tmp_path / "images")
    closed = root / "red" / "closed"
    closed.mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    images = load_class_folders(root, SPEC)
    assert images.skipped == (f"{closed}: Permission denied",)
    assert len(images) == 90


def test_a_part_of_a_large_set_lies_on_disk_too(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images(str(colours), "test", SPEC, Path("unused"))
    chosen = np.array([80, 3, 41])
    expected = images.pixels[chosen]
    monkeypatch.setattr("isoserve.training.pixel_arrays.IN_MEMORY_BYTES", 1000)
    few = images.take(chosen)
    assert isinstance(few.pixels, np.memmap)
    np.testing.assert_array_equal(few.pixels, expected)


def test_hold_out_is_stratified_disjoint_and_fixed_by_the_seed() -> None:
    labels = np.repeat([0, 1, 2], [100, 300, 600])
    training, held_out = hold_out(labels, 100, seed=1)
    assert np.bincount(labels[held_out]).tolist() == [10, 30, 60]
    assert sorted([*training, *held_out]) == list(range(1000))
    np.testing.assert_array_equal(held_out, hold_out(labels, 100, seed=1)[1])
    assert not np.array_equal(held_out, hold_out(labels, 100, seed=2)[1])


def test_hold_out_leaves_every_class_an_image_on_both_sides() -> None:
    labels = np.array([0] * 200 + [1, 1])
    training, held_out = hold_out(labels, 60, seed=0)
    assert set(labels[training]) == set(labels[held_out]) == {0, 1}


@pytest.mark.parametrize(("alpha", "expected"), [(0.05, 59), (0.01, 299)])
def test_the_smallest_calibration_set(alpha: float, expected: int) -> None:
    assert smallest_calibration(alpha, 0.05) == expected
    # The smallest of n uniform p-values is at most alpha with probability 1 - (1 - alpha)^n.
    assert 1 - (1 - alpha) ** expected >= 0.95 > beta.cdf(alpha, 1, expected - 1)


def test_enough_is_held_out_to_calibrate_or_the_data_refused() -> None:
    assert held_out_count(50_000, 0.1, 0.05, 0.05) == 5_000
    assert held_out_count(300, 0.1, 0.05, 0.05) == 59
    with pytest.raises(InputError, match="100 training images are too few.*at least 118"):
        held_out_count(100, 0.1, 0.05, 0.05)


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def test_a_named_set_is_found_on_disk_before_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    for split in ("train", "t10k"):
        _write_idx(raw / f"{split}-images-idx3-ubyte", pixels)
        _write_idx(raw / f"{split}-labels-idx1-ubyte", labels)
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    images = load_images("FashionMNIST", "test", InputSpec(height=28, width=28), tmp_path)
    np.testing.assert_array_equal(images.pixels, np.repeat(pixels[..., None], 3, axis=3))
    assert images.labels.tolist() == labels.tolist()
    assert images.classes[9] == "Ankle boot"


def test_a_set_that_cannot_be_downloaded_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(InputError, match="CIFAR10 is not in .* and could not be downloaded"):
        load_images("cifar10", "train", SPEC, tmp_path)


def _no_network(*_: object, **__: object) -> Callable[[], None]:
    raise OSError("no network in tests")
