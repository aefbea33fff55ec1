"""What a scale trains: each network once, studies one step away from the main recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isoserve.models.card import InputSpec
from isoserve.training.data import LabelledImages
from isoserve.training.reproduce.measure import method_names
from isoserve.training.reproduce.plan import all_trainings, first_of_each_class, main_training
from isoserve.training.reproduce.scale import FOOLING_SEED, OPENOOD, SCALES, STUDIES, Scale
from isoserve.training.reproduce.synthetic import MADE, digits, made_out_distribution

SPEC = InputSpec(height=8, width=8, resize="fit-bicubic")


@pytest.mark.parametrize("name", SCALES)
def test_no_network_is_trained_twice_and_the_fooled_one_is_apart(name: str) -> None:
    plan = all_trainings(SCALES[name])
    assert len({(t.in_data, t.recipe, t.images_per_class) for t in plan}) == len(plan)
    for training in plan:
        assert (training.recipe.seed == FOOLING_SEED) == (training.purpose == "fooling")


def test_the_papers_scale_has_the_papers_recipe() -> None:
    recipe = main_training(SCALES["paper"], "resnet34_32", "cifar100", "isomax2", 0).recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (300, 64, 0.1)
    assert (recipe.weight_decay, recipe.momentum, recipe.schedule) == (1e-4, 0.9, "step")


def test_the_ablation_and_the_main_run_fill_the_four_cells_of_table_3() -> None:
    names = {
        name
        for training in all_trainings(SCALES["smoke"])
        if training.recipe.loss == "isomax2" and training.recipe.seed == 0
        for name in method_names(training, "IsoMax2/ES", STUDIES)
        if "wd=" in name
    }
    settings = [f"wd={wd} lr={lr}x" for wd in ("yes", "no") for lr in ("1", "0.1")]
    assert names == {f"IsoMax2/ES {setting}" for setting in settings}


@pytest.mark.parametrize("system", ["IsoMax/ES", "IsoMax2/ES"])
@pytest.mark.parametrize(
    "scale",
    [
        replace(SCALES["smoke"], studies=()),
        replace(SCALES["smoke"], studies=("fewer images", OPENOOD)),
    ],
)
def test_where_a_study_does_not_run_no_network_stands_in_it(scale: Scale, system: str) -> None:
    trainings = [each for each in all_trainings(scale) if each.purpose == "main"]
    assert trainings
    for training in trainings:
        assert method_names(training, system, scale.studies) == [system]


def test_fewer_images_are_the_first_of_each_class() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1])
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    images = LabelledImages("made", pixels, labels, ("a", "b"))
    few = first_of_each_class(images, 2)
    assert few.labels.tolist() == [0, 1, 0, 1]
    assert few.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert first_of_each_class(images, None) is images


def test_digits_are_split_once_and_for_all() -> None:
    train, test = digits("train", SPEC), digits("test", SPEC)
    assert len(train) + len(test) == 1797
    assert set(test.labels.tolist()) == set(range(10))
    seen = {image.tobytes() for image in train.pixels}
    assert sum(image.tobytes() in seen for image in test.pixels) == 0
    assert digits("test", SPEC).digest() == test.digest()


@pytest.mark.parametrize("name", MADE)
def test_made_sets_repeat_and_hold_no_digit(name: str) -> None:
    found = made_out_distribution(name, SPEC)
    assert np.array_equal(found.pixels, made_out_distribution(name, SPEC).pixels)
    known = {image.tobytes() for image in digits("test", SPEC).pixels}
    assert not any(image.tobytes() in known for image in found.pixels)
    assert len(np.unique(found.pixels.reshape(len(found), -1), axis=0)) > 0.9 * len(found)
