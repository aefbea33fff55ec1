"""Out-distributions: deterministic, readable from any layout, and on the one path to pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy import stats

import isoserve.training.named_sets
from isoserve.models.card import InputSpec
from isoserve.models.errors import InputError
from isoserve.models.preprocessing import to_pixels
from isoserve.training.out_distributions import load_out_distribution, load_out_distributions

SPEC = InputSpec(height=16, width=16)
RNG = np.random.default_rng(5)


def write_images(folder: Path, count: int, size: tuple[int, int] = (24, 20)) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


def test_noise_has_the_papers_distribution() -> None:
    shape = (200, 16, 16, 3)
    gaussian = load_out_distribution("gaussian", SPEC, Path(), limit=200).pixels
    uniform = load_out_distribution("Uniform", SPEC, Path(), limit=200).pixels
    assert gaussian.shape == uniform.shape == shape
    assert gaussian.dtype == uniform.dtype == np.uint8
    # N(0.5, 1) falls below 0, and above 1, with probability Phi(-0.5).
    clipped = stats.norm.cdf(-0.5)
    assert np.mean(gaussian == 0) == pytest.approx(clipped, abs=0.01)
    assert np.mean(gaussian == 255) == pytest.approx(clipped, abs=0.01)
    assert np.mean(gaussian < 128) == pytest.approx(0.5, abs=0.01)
    assert np.mean(uniform) == pytest.approx(127.5, abs=0.5)
    assert stats.kstest(uniform[:10].ravel() / 255, "uniform").statistic < 0.03


def test_noise_images_depend_on_their_index_alone_and_differ() -> None:
    few = load_out_distribution("gaussian", SPEC, Path(), limit=3)
    many = load_out_distribution("gaussian", SPEC, Path(), limit=10)
    other = load_out_distribution("uniform", SPEC, Path(), limit=3)
    assert np.array_equal(few.pixels, many.pixels[:3])
    assert len(np.unique(many.pixels.reshape(10, -1), axis=0)) == 10
    assert few.digest() == load_out_distribution("gaussian", SPEC, Path(), limit=3).digest()
    assert few.digest() != other.digest()


@pytest.mark.parametrize("layout", ["", "Imagenet_resize", "a/deep/tree"])
def test_flat_and_nested_folders_are_read_through_the_one_path(tmp_path: Path, layout: str) -> None:
    paths = write_images(tmp_path / "set" / layout, 4)
    found = load_out_distribution(str(tmp_path / "set"), SPEC, tmp_path)
    assert found.name == "set"
    for path, pixels in zip(paths, found.pixels, strict=True):
        with Image.open(path) as image:
            assert np.array_equal(pixels, to_pixels(image, SPEC))


def test_odins_layout_is_found_by_name_under_the_data_root(tmp_path: Path) -> None:
    write_images(tmp_path / "Imagenet_resize" / "Imagenet_resize", 3)
    write_images(tmp_path / "LSUN_resize" / "LSUN_resize", 2)
    assert len(load_out_distribution("TinyImageNet", SPEC, tmp_path)) == 3
    assert load_out_distribution("lsun", SPEC, tmp_path).name == "lsun"


def test_only_the_test_part_of_a_data_set_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "train" / "cat", 5)
    write_images(tmp_path / "set" / "test" / "cat", 2)
    assert len(load_out_distribution(str(tmp_path / "set"), SPEC, tmp_path)) == 2


def test_a_corrupt_image_is_named_and_skipped(tmp_path: Path) -> None:
    good = write_images(tmp_path / "set", 3)
    good[1].write_bytes(b"no image")
    (tmp_path / "set" / "._000.png").write_bytes(b"a resource fork")
    found = load_out_distribution(str(tmp_path / "set"), SPEC, tmp_path)
    assert len(found) == 2
    assert len(found.skipped) == 1
    assert str(good[1]) in found.skipped[0]


def test_a_limit_spreads_over_the_whole_set(tmp_path: Path) -> None:
    for label in range(5):
        folder = tmp_path / "set" / str(label)
        for path in write_images(folder, 4, (16, 16)):
            Image.new("RGB", (16, 16), (label, label, label)).save(path)
    found = load_out_distribution(str(tmp_path / "set"), SPEC, tmp_path, limit=5)
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert len(load_out_distribution(str(tmp_path / "set"), SPEC, tmp_path, limit=50)) == 20


def test_a_set_can_be_given_another_name(tmp_path: Path) -> None:
    write_images(tmp_path / "x=y", 2)
    assert load_out_distribution(f"LSUN={tmp_path / 'x=y'}", SPEC, tmp_path).name == "LSUN"
    assert load_out_distribution("noise=uniform", SPEC, tmp_path, limit=1).name == "noise"


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    """Tables and figures go by the name: the second would hide the first."""
    for parent in ("a", "b"):
        write_images(tmp_path / parent / "images", 1)
    sources = [str(tmp_path / "a" / "images"), str(tmp_path / "b" / "images")]
    with pytest.raises(InputError, match="two out-distributions named 'images'.*NAME=SOURCE"):
        load_out_distributions(sources, SPEC, tmp_path)
    found = load_out_distributions([sources[0], f"others={sources[1]}"], SPEC, tmp_path)
    assert [out.name for out in found] == ["images", "others"]


def test_torchvisions_svhn_gives_its_test_split(tmp_path: Path, monkeypatch) -> None:
    pixels = RNG.integers(0, 256, (32, 32, 3, 6), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.arange(1, 7)[:, None]})
    datasets = isoserve.training.named_sets.import_torchvision("torchvision.datasets")
    # Torchvision knows its own file by checksum.
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda _: True)
    spec = InputSpec(height=32, width=32)
    found = load_out_distribution("svhn", spec, tmp_path)
    assert np.array_equal(found.pixels, pixels.transpose(3, 0, 1, 2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no out-distribution and no folder named 'nowhere'"),
        ("lsun", "LSUN_resize"),
        ("{root}", "no images in"),
        ("{root}/bad", "not one readable image"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, source: str, message: str
) -> None:
    if source.endswith("bad"):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        load_out_distribution(source.format(root=tmp_path), SPEC, tmp_path)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="limit is 0"):
        load_out_distribution("uniform", SPEC, Path(), limit=0)
