"""Classification of labelled images, class by class, and the images it is worst at."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import ClassRejections, ClassResult, HeldOut
from isoserve.training.evaluation.metrics import (
    accuracy,
    expected_calibration_error,
    negative_log_likelihood,
)
from isoserve.training.onnx_graph import Outputs

MOST_IN_CONFUSION = 100
"""Classes; the matrix of more would be larger than all else that a card says."""

WORST_IMAGES = 24


class WorstImage(NamedTuple):
    """An image whose class was taken for another with much confidence."""

    row: int
    """Its place in the set."""
    label: int
    predicted: int
    probability: float
    """Of the class it was taken for."""
    p_value: float


def judge(
    split: Literal["calibration", "test"],
    outputs: Outputs,
    labels: NDArray[np.int64],
    alpha: float,
) -> HeldOut:
    """Accuracy, calibration error, rejections, and the same by class, of N images.

    Args:
        outputs: ``probabilities`` [N, C], ``p_value`` and ``class_p_value`` [N] are looked at.
        labels: [N], the true classes.
    """
    probabilities = outputs["probabilities"]
    predicted = probabilities.argmax(axis=1)
    rejected = outputs["p_value"] <= np.float32(alpha)
    class_rejected = outputs["class_p_value"] <= np.float32(alpha)
    classes = probabilities.shape[1]
    confusion = confusion_matrix(labels, predicted, classes)
    per_class = []
    for label in range(classes):
        mine = labels == label
        n = int(mine.sum())
        per_class.append(
            ClassResult(
                n=n,
                accuracy=confusion[label, label] / n if n else None,
                rejected=float(rejected[mine].mean()) if n else None,
            )
        )
    return HeldOut(
        split=split,
        n=len(labels),
        accuracy=accuracy(probabilities, labels),
        ece=expected_calibration_error(probabilities, labels),
        nll=negative_log_likelihood(probabilities, labels),
        rejected=float(np.mean(rejected)),
        class_rejected=float(np.mean(class_rejected)),
        by_class=rejections_by_class(predicted, rejected, class_rejected, classes),
        classes=per_class,
        confusion=confusion.tolist() if classes <= MOST_IN_CONFUSION else [],
    )


def rejections_by_class(
    predicted: NDArray[np.int64],
    rejected: NDArray[np.bool_],
    class_rejected: NDArray[np.bool_],
    num_classes: int,
) -> list[ClassRejections]:
    """Shares of the images [n] predicted as each class that either p-value rejects [n]."""
    found = []
    for label in range(num_classes):
        members = predicted == label
        shares = [
            float(of[members].mean()) if members.any() else None
            for of in (rejected, class_rejected)
        ]
        found.append(
            ClassRejections(n=int(members.sum()), rejected=shares[0], class_rejected=shares[1])
        )
    return found


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """[C, C]: how many images of the row's class were taken for the column's."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def worst_images(
    outputs: Outputs, labels: NDArray[np.int64], most: int = WORST_IMAGES
) -> list[WorstImage]:
    """The wrongly classified images whose true class was held least probable, worst first."""
    probabilities = outputs["probabilities"]
    predicted = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.lexsort((wrong, -probabilities.max(axis=1)[wrong], of_truth[wrong]))]
    return [
        WorstImage(
            int(index),
            int(labels[index]),
            int(predicted[index]),
            float(probabilities[index, predicted[index]]),
            float(outputs["p_value"][index]),
        )
        for index in order[:most]
    ]
