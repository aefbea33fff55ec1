"""An output that cannot be right is not a verdict, and one image's fault is not another's."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from faulty_model import NAN_SCORE, P_VALUE_OF_7, RAISES, faulty_model
from tiny_model import tiny_model

from isoserve.service.inference.judgement import faults, judge
from isoserve.service.inference.model import Model, load_model
from isoserve.service.inference.outputs import Outputs, Pixels

RED = (255, 0, 0)


def pixels(*colours: tuple[int, int, int]) -> Pixels:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])


@pytest.fixture(scope="module", name="faulty")
def _faulty() -> Model:
    return load_model("m", 1, faulty_model().SerializeToString(), 1, 4)


@pytest.fixture(scope="module", name="sound")
def _sound() -> Model:
    return load_model("m", 1, tiny_model().SerializeToString(), 1, 4)


def broken(outputs: Outputs, row: int, name: str, value: float) -> Outputs:
    values = {each.name: getattr(outputs, each.name) for each in fields(Outputs) if each.init}
    values[name] = values[name].copy()
    values[name].reshape(len(values[name]), -1)[row, -1] = value
    return Outputs(**values)


@pytest.mark.parametrize("images", [1, 3, 65])
def test_what_a_sound_network_says_has_no_fault(sound: Model, images: int) -> None:
    rng = np.random.default_rng(0)
    assert faults(sound.run(0, rng.integers(0, 256, (images, 8, 8, 3), dtype=np.uint8))) == {}


@pytest.mark.parametrize("images", [1, 3, 65])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("probabilities", math.nan, "'probabilities' is not finite"),
        ("probabilities", -0.5, "'probabilities' is -0.5"),
        ("probabilities", 0.5, "the sum of probabilities is"),
        ("p_value", 7.0, "'p_value' is 7, which lies outside"),
        ("p_value", 0.0, "'p_value' is 0,"),
        ("p_value", math.nan, "'p_value' is not finite"),
        ("class_p_value", -1.0, "'class_p_value' is -1"),
        ("entropic_score", math.nan, "'entropic_score' is not finite"),
        ("entropic_score", -math.inf, "'entropic_score' is not finite"),
        ("entropic_score", 3.0, "'entropic_score' is 3"),
        ("entropic_score", -3.0, "'entropic_score' is -3"),
        ("distances", math.inf, "'distances' is not finite"),
        ("distances", math.nan, "'distances' is not finite"),
    ],
)
def test_a_value_that_cannot_be_right_is_its_rows_fault_alone(
    sound: Model, images: int, name: str, value: float, words: str
) -> None:
    outputs = sound.run(0, pixels(*[RED] * images))
    last = images - 1
    found = faults(broken(outputs, last, name, value))
    assert list(found) == [last]
    assert words in found[last]


def test_the_rows_that_are_left_are_those_of_the_other_images(faulty: Model) -> None:
    given = pixels(RED, P_VALUE_OF_7, (0, 255, 0), NAN_SCORE)
    outputs, rows, found = judge(faulty, 0, given)
    assert (rows, sorted(found)) == ([0, 2], [1, 3])
    assert outputs is not None
    assert outputs.predicted == [0, 1]
    assert np.isfinite(outputs.entropic_score).all()


def test_where_the_network_fails_each_image_is_tried_alone(faulty: Model) -> None:
    calls: list[int] = []

    class Counted:
        def run(self, slot: int, images: Pixels) -> Any:
            calls.append(len(images))
            return faulty.run(slot, images)

    outputs, rows, found = judge(Counted(), 0, pixels(RED, RAISES, (0, 0, 255)))
    assert calls == [3, 1, 1, 1]
    assert (rows, list(found)) == ([0, 2], [1])
    assert outputs is not None
    assert outputs.predicted == [0, 2]
    assert "the network fails: " in found[1]
    assert "\n" not in found[1]


def test_of_a_batch_that_fails_whole_nothing_is_left(faulty: Model) -> None:
    assert judge(faulty, 0, pixels(RAISES))[:2] == (None, [])
    outputs, rows, found = judge(faulty, 0, pixels(RAISES, RAISES, P_VALUE_OF_7))
    assert (outputs, rows, sorted(found)) == (None, [], [0, 1, 2])
