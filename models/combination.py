"""The one form of the combined score, for every data set: a soft minimum of the views.

With z a view's score in spreads above its centre, both found on held-out images,

    ood_score = -log sum over views of WEIGHT exp(-SHARPNESS z)

One view far below its centre decides alone, however sure the others are: noise that a network
is certain of is unlike any training image all the same. Near the centre the views add up. There
is no table whose end a strange image could reach, as ranks have it. Form and numbers were chosen
once, by classes held out of three data sets and synthetic outliers
(``docs/results/combined-score``). This module needs neither torch nor onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

View = Literal["entropic", "boundary", "density"]

VIEWS: tuple[View, ...] = get_args(View)
"""In the order of every array with one entry a view."""

SHARPNESS = 1.5
WEIGHTS: dict[View, float] = {"entropic": 1.0, "boundary": 1.0, "density": 1.5}


def weighted_terms(
    scores: NDArray[np.floating], centres: Sequence[float], spreads: Sequence[float]
) -> NDArray[np.float64]:
    """The logarithms [V, N] of the sum's terms, for scores [V, N] in the order of :data:`VIEWS`.

    The view of the largest term lowers the combined score most.
    """
    factors, offsets = linear_terms(centres, spreads)
    terms: NDArray[np.float64] = (
        factors[:, np.newaxis] * scores.astype(np.float64) + offsets[:, np.newaxis]
    )
    return terms


def linear_terms(
    centres: Sequence[float] | NDArray[np.floating], spreads: Sequence[float] | NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same logarithms as factors [V] and offsets [V] of the scores, as the graph has them."""
    factors = -SHARPNESS / np.asarray(spreads, dtype=np.float64)
    weights = np.log([WEIGHTS[view] for view in VIEWS])
    return factors, weights - factors * np.asarray(centres, dtype=np.float64)
