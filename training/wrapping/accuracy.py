"""Is the preprocessing what the classifier was trained with? Its accuracy tells.

Of a wrong one the accuracy is low, or less than another would give; the refusal then says which
other reading of the images would have given more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.hold_out import evenly_spread
from isoserve.training.wrapping.preprocessing import Preprocessing

FAR_BELOW = 0.1
"""So far below what is expected, or what another preprocessing gives, is refused."""

LEAST = 0.5
"""Less is refused where nothing is expected."""

CHECKED_IMAGES = 256

IMAGES_A_CLASS = 5
"""Of fewer some order of the classes always fits."""

Predict = Callable[[Preprocessing, NDArray[np.uint8]], NDArray[np.int64]]
"""Predicted classes [N] of uint8 pixels [N, H, W, 3]."""


def check_accuracy(
    predict: Predict, stated: Preprocessing, images: LabelledImages, expected: float | None
) -> None:
    """Refuse a preprocessing with which too few of the images are classified right.

    With ``expected``: more than 0.1 less. Without: under one half, or more than 0.1 less than
    another preprocessing gives.

    Raises:
        InputError: the accuracy, and what would have given more.
    """
    few = images.take(evenly_spread(len(images), CHECKED_IMAGES))
    predicted = predict(stated, few.pixels)
    accuracy = float((predicted == few.labels).mean())
    if expected is not None and accuracy >= expected - FAR_BELOW:
        return
    if expected is None and accuracy >= 1 - FAR_BELOW:
        return
    causes = [_Cause(accuracy, "")]
    for other in stated.alternatives():
        reached = float((predict(other, few.pixels) == few.labels).mean())
        causes.append(_Cause(reached, f"{other.options(stated)} would give {reached:.2f}"))
    causes.append(_order_of_classes(predicted, few))
    best = max(causes, key=lambda cause: cause.accuracy)
    more = best.accuracy > accuracy + FAR_BELOW
    if expected is None and accuracy >= LEAST and not more:
        return
    bar = f"{expected:.2f} expected" if expected is not None else f"the {LEAST} asked for at least"
    if expected is None and accuracy >= LEAST:
        bar = "what another preprocessing gives"
    likely = (
        f"likely cause: {best.words}"
        if more
        else "no usual mean, std, range or order of channels or classes gives more: is it the "
        "right --size, and are these the classifier's own kind of images?"
    )
    raise InputError(
        f"the accuracy on {images.name} is {accuracy:.2f} (n = {len(few)}), far below {bar}; "
        f"{likely}"
    )


@dataclass(frozen=True)
class _Cause:
    accuracy: float
    words: str


def _order_of_classes(predicted: NDArray[np.int64], images: LabelledImages) -> _Cause:
    """What the accuracy would be were the classes in the order that fits best."""
    size = len(images.classes)
    if len(images) < IMAGES_A_CLASS * size:
        return _Cause(0.0, "")
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (images.labels, predicted), 1)
    rows, columns = linear_sum_assignment(-counts)
    reached = float(counts[rows, columns].sum()) / len(images)
    return _Cause(
        reached,
        f"another order of the classes would give {reached:.2f}: give them in the order of the "
        "network's outputs by --classes",
    )
