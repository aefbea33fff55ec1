"""Accuracy by class, confusion and worst images, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import recall_score

from isoserve.training.evaluation.class_figures import draw_confusion, draw_worst
from isoserve.training.evaluation.class_results import judge, worst_images
from isoserve.training.evaluation.figures import new_figure

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 4, 300)
PROBABILITIES = GENERATOR.dirichlet(np.ones(5), 300).astype(np.float32)
P_VALUES = GENERATOR.random(300).astype(np.float32)
OUTPUTS = {"probabilities": PROBABILITIES, "p_value": P_VALUES, "class_p_value": P_VALUES}


def test_classes_are_counted_as_scikit_learn_counts_them() -> None:
    found = judge("test", OUTPUTS, LABELS, 0.05)
    predicted = PROBABILITIES.argmax(axis=1)
    assert found.confusion == sklearn_confusion(LABELS, predicted, labels=range(5)).tolist()
    recalls = recall_score(LABELS, predicted, labels=range(4), average=None)
    assert [result.accuracy for result in found.classes[:4]] == pytest.approx(recalls.tolist())
    assert found.classes[4].accuracy is None
    assert [result.n for result in found.classes] == np.bincount(LABELS, minlength=5).tolist()
    rejected = (P_VALUES[LABELS == 2] <= 0.05).mean()
    assert found.classes[2].rejected == pytest.approx(rejected)


def test_a_matrix_of_very_many_classes_is_left_out() -> None:
    probabilities = np.full((2, 101), 1 / 101, np.float32)
    outputs = {
        "probabilities": probabilities,
        "p_value": P_VALUES[:2],
        "class_p_value": P_VALUES[:2],
    }
    found = judge("test", outputs, np.array([0, 1]), 0.05)
    assert found.confusion == []
    assert len(found.classes) == 101


def test_the_worst_are_wrong_and_surest_of_it_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.99, 0.01], [0.6, 0.4]], np.float32)
    outputs = {"probabilities": probabilities, "p_value": P_VALUES[:4]}
    worst = worst_images(outputs, np.array([1, 1, 1, 1]))
    assert [image.row for image in worst] == [2, 0, 3]
    assert worst[0].predicted == 0
    assert worst[0].probability == pytest.approx(0.99)
    assert worst_images(outputs, np.array([0, 1, 0, 0])) == []


def test_both_are_drawn_with_their_names() -> None:
    figure = new_figure()
    draw_confusion(figure.subplots(), [[3, 1], [0, 2]], ["cat", "dog"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["3", "1", "2"]
    outputs = {"probabilities": PROBABILITIES, "p_value": P_VALUES, "class_p_value": P_VALUES}
    worst = worst_images(outputs, LABELS, most=7)
    figure = new_figure()
    draw_worst(figure, worst, np.zeros((300, 8, 8, 3), np.uint8), list("abcde"))
    assert len(figure.axes) == 7
    assert f"{worst[0].probability:.2f}" in figure.axes[0].get_title()
