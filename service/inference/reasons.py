"""Why an image was judged as it was: the view that speaks most against it, and its words."""

from __future__ import annotations

from typing import Any

import numpy as np

from isoserve.models.card import ModelCard
from isoserve.models.combination import SHARPNESS, VIEWS, WEIGHTS, View, weighted_terms
from isoserve.service.inference.outputs import Outputs

WORDS: dict[View, str] = {
    "entropic": "between two classes",
    "boundary": "close to a class border",
    "density": "unlike any training image",
}


def reasons(card: ModelCard, outputs: Outputs) -> list[View]:
    """The view that lowers each image's deciding score most, [N].

    Where the entropic score decides alone, it is the reason.
    """
    combination = card.combination
    if combination is None:
        return ["entropic"] * len(outputs.predicted)
    scores = np.stack([getattr(outputs, f"{view}_score") for view in VIEWS])
    scales = [getattr(combination, view) for view in VIEWS]
    terms = weighted_terms(
        scores, [scale.centre for scale in scales], [scale.spread for scale in scales]
    )
    return [VIEWS[index] for index in terms.argmax(axis=0).tolist()]


def reason(card: ModelCard, outputs: Outputs, row: int) -> View:
    """The same of one image."""
    combination = card.combination
    if combination is None:
        return "entropic"

    def against(view: View) -> float:
        scale = getattr(combination, view)
        below = (scale.centre - float(getattr(outputs, f"{view}_score")[row])) / scale.spread
        return float(SHARPNESS * below + np.log(WEIGHTS[view]))

    return max(VIEWS, key=against)


def nearest_prototypes(card: ModelCard, outputs: Outputs, row: int) -> list[dict[str, Any]]:
    """The two classes whose prototypes are nearest, the nearest first."""
    distances = outputs.distances[row]
    return [
        {"label": card.classes[index], "index": index, "distance": distances[index]}
        for index in np.argsort(distances, kind="stable")[:2].tolist()
    ]
