"""Figures are readable PNG files that depend on their numbers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isoserve.models.errors import InputError
from isoserve.training.evaluation.figures import (
    COLOURS,
    draw_histogram,
    new_figure,
    save_figure,
    score_histogram,
)

RNG = np.random.default_rng(3)


def test_a_histogram_shows_every_named_sample_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.png"
    outside = {"svhn": RNG.normal(-2, 0.2, 500), "noise": RNG.normal(-2.3, 0.3, 40)}
    score_histogram(path, RNG.normal(-1.5, 0.2, 1000), outside, threshold=-1.9)
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in COLOURS[:2]:
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert (abs(pixels - rgb) < 40).all(axis=1).sum() > 100  # edges are antialiased


def test_the_same_numbers_give_the_same_bytes_and_no_other_file(tmp_path: Path) -> None:
    scores = RNG.normal(size=100)
    for name in ("a.png", "b.png"):
        score_histogram(tmp_path / name, scores, {"other": scores - 1})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_constant_scores_and_no_out_distribution_can_be_drawn(tmp_path: Path) -> None:
    score_histogram(tmp_path / "constant.png", [1.0, 1.0], {})
    assert (tmp_path / "constant.png").stat().st_size > 1000


def test_an_out_distribution_named_as_the_test_set_does_not_stand_in_its_place() -> None:
    axes = new_figure().subplots()
    draw_histogram(axes, [1.0, 2.0], {"test set": [0.0, 1.0, 1.5]})
    shown = [entry.get_text() for entry in axes.legend().get_texts()]
    assert shown == ["test set (2)", "test set (3)"]


@pytest.mark.parametrize("name", ["from_$5_and_$10_", "_hidden", "_$", r"a\$b$c$", "$"])
def test_any_name_stands_in_the_legend_as_it_is(name: str) -> None:
    figure = new_figure()
    axes = figure.subplots()
    draw_histogram(axes, [1.0, 2.0], {name: [0.0, 1.0]})
    _, entry = axes.legend().get_texts()
    figure.canvas.draw()
    shown, is_formula = entry._preprocess_math(entry.get_text())
    assert (shown.strip(), is_formula) == (f"{name} (2)", False)


def test_a_path_that_is_taken_by_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write .*file/figure.png"):
        save_figure(new_figure(), tmp_path / "file" / "figure.png")
