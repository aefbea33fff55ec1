"""The study of ways to train: its outliers, its split of classes, its page."""

import json
from pathlib import Path

import numpy as np

from benchmarks.held_out_classes.__main__ import VARIANTS, part, unseen_classes
from benchmarks.held_out_classes.outliers import synthetic_outliers
from benchmarks.held_out_classes.report import page
from isoserve.training.data import LabelledImages

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "training-choices"


def test_outliers_keep_what_their_kind_keeps() -> None:
    random = np.random.default_rng(0)
    images = np.repeat(random.integers(0, 256, (1, 32, 32, 3), np.uint8), 5, axis=0)
    made = synthetic_outliers(images, 6, seed=1)
    assert {kind.shape for kind in made.values()} == {(6, 32, 32, 3)}
    ordered = np.sort(images[0].reshape(-1, 3), axis=0)
    for kind in ("permuted", "tiles"):
        for image in made[kind]:
            assert (np.sort(image.reshape(-1, 3), axis=0) == ordered).all()
            assert (image != images[0]).any()
    assert (made["blends"] == images[0]).all()  # of an image with itself
    amplitudes = [np.abs(np.fft.fft2(x.astype(float), axes=(0, 1))) for x in (images[0],)]
    other = np.abs(np.fft.fft2(made["phases"][0].astype(float), axes=(0, 1)))
    assert np.corrcoef(amplitudes[0].ravel(), other.ravel())[0, 1] > 0.9
    again = synthetic_outliers(images, 6, seed=1)
    assert all((made[kind] == again[kind]).all() for kind in made)


def test_seeds_leave_out_other_classes() -> None:
    left_out = [unseen_classes(10, seed) for seed in range(5)]
    assert sorted(label for labels in left_out for label in labels) == list(range(10))
    assert unseen_classes(3, 0) != unseen_classes(3, 1)


def test_no_image_of_an_unseen_class_is_trained_on() -> None:
    labels = np.array([0, 1, 2, 3, 0, 2])
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    images = LabelledImages("x", pixels, labels, ("a", "b", "c", "d"))
    known, unknown = part(images, [0, 2])
    assert known.classes == ("b", "d")
    assert known.labels.tolist() == [0, 1]
    assert known.pixels[:, 0, 0, 0].tolist() == [1, 3]
    assert unknown[:, 0, 0, 0].tolist() == [0, 2, 4, 5]


def test_the_page_is_what_was_measured() -> None:
    lines = (RESULTS / "results.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert (RESULTS / "README.md").read_text() == page(rows)
    assert {row["variant"] for row in rows} <= set(VARIANTS)


def test_each_teacher_is_a_variant_before_its_pupil() -> None:
    names = list(VARIANTS)
    for name, settings in VARIANTS.items():
        if "teacher" in settings:
            assert names.index(settings["teacher"]) < names.index(name)
