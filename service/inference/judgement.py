"""The network's outputs on a batch, each row checked: what cannot be right is no verdict.

A model is tried on random pixels when it is loaded; an image may still bring it to answer with
what is not finite or out of range, or to fail. That image alone is refused then, not its batch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import SCHEMA_1_OUTPUTS, SCHEMA_2_OUTPUTS
from isoserve.service.inference.outputs import Floats, Outputs, Pixels

FAILED = "inference_failed"
"""Reason of the answer to an image that the network fails on; its batch's others are answered."""

SUM_TOLERANCE = 1e-3
"""Of the probabilities' sum, and of an entropy at its bounds: float32 rounds."""

P_VALUES = frozenset(("p_value", "class_p_value", "entropic_p_value"))
OF_IMAGE = [
    tuple(name for name in names if name not in ("probabilities", "distances"))
    for names in (SCHEMA_1_OUTPUTS, SCHEMA_2_OUTPUTS)
]
"""Outputs of one value an image, by schema: in the first, the others are the same arrays."""

_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


class Network(Protocol):
    """What is judged: see :class:`isoserve.service.inference.model.Model`."""

    def run(self, slot: int, images: Pixels) -> Outputs: ...


class Judged(NamedTuple):
    """What became of a batch.

    ``outputs``: of the images ``rows`` alone, in their order; None where there is none.
    ``faults``: what is wrong with each of the other images' outputs.
    """

    outputs: Outputs | None
    rows: list[int]
    faults: dict[int, str]


def judge(network: Network, slot: int, images: Pixels) -> Judged:
    """Run the network on a batch; where it fails, on each image by itself.

    Args:
        images: uint8 [N, H, W, 3], N >= 1.
    """
    try:
        outputs = network.run(slot, images)
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        if len(images) == 1:
            return Judged(None, [], {0: f"the network fails: {first_line(error)}"})
        return _one_by_one(network, slot, images)
    found = faults(outputs)
    if not found:
        return Judged(outputs, [*range(len(images))], found)
    rows = [row for row in range(len(images)) if row not in found]
    return Judged(_rows(outputs, rows) if rows else None, rows, found)


def faults(outputs: Outputs) -> dict[int, str]:
    """The rows that cannot be right, and what is wrong with each; empty as a rule."""
    of_image = OF_IMAGE[outputs.density_score is not None]
    probabilities = outputs.probabilities
    values = [getattr(outputs, name) for name in of_image]
    values.append(np.add.reduce(probabilities, axis=1))
    table = np.concatenate((probabilities.T, outputs.distances.T, values))
    low, high, name_of = _bounds(of_image, probabilities.shape[1])
    sound = (table >= low) & (table <= high)  # nothing holds of NaN
    if sound.all():
        return {}
    found: dict[int, str] = {}
    for row in np.flatnonzero(~sound.all(axis=0)).tolist():
        name = name_of[int(np.argmin(sound[:, row]))]
        own = [place for place, each in enumerate(name_of) if each == name]
        found[row] = _fault(name, table[own, row], float(low[own[0], 0]), float(high[own[0], 0]))
    return found


def first_line(error: Exception) -> str:
    """An exception's message, in one bounded line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


@lru_cache(maxsize=64)
def _bounds(of_image: tuple[str, ...], classes: int) -> tuple[Floats, Floats, list[str]]:
    """The least and the largest value in each row of the table, and which output it is of.

    Returns:
        float32 [K, 1] twice, and K names: of the probabilities and the distances, one for each
        class, of the outputs that have one value an image, and of the probabilities' sum.
    """
    bounds = [("probabilities", 0.0, 1.0 + SUM_TOLERANCE)] * classes
    bounds += [("distances", -_LARGEST, _LARGEST)] * classes
    for name in of_image:
        if name in P_VALUES:
            bounds.append((name, _SMALLEST, 1.0))
        elif name == "entropic_score":
            bounds.append((name, -math.log(max(classes, 1)) - SUM_TOLERANCE, SUM_TOLERANCE))
        else:
            bounds.append((name, -_LARGEST, _LARGEST))
    bounds.append(("the sum of probabilities", 1.0 - SUM_TOLERANCE, 1.0 + SUM_TOLERANCE))
    name_of, low, high = zip(*bounds, strict=True)
    columns = np.array((low, high), dtype=np.float32)[..., None]
    return columns[0], columns[1], list(name_of)


def _fault(name: str, values: NDArray[np.float32], low: float, high: float) -> str:
    if not np.isfinite(values).all():
        return f"{_quoted(name)} is not finite"
    worst = values[int(np.argmax(np.maximum(low - values, values - high)))]
    return f"{_quoted(name)} is {worst:.6g}, which lies outside {low:.6g} .. {high:.6g}"


def _quoted(name: str) -> str:
    return f"'{name}'" if name in SCHEMA_2_OUTPUTS else name


def _one_by_one(network: Network, slot: int, images: Pixels) -> Judged:
    found = [judge(network, slot, images[row : row + 1]) for row in range(len(images))]
    rows = [row for row, judged in enumerate(found) if judged.outputs is not None]
    alone = [judged.outputs for judged in found if judged.outputs is not None]
    wrong = {row: judged.faults[0] for row, judged in enumerate(found) if judged.faults}
    return Judged(_joined(alone) if alone else None, rows, wrong)


def _rows(outputs: Outputs, rows: list[int]) -> Outputs:
    kept = {name: values[rows] for name, values in _given(outputs).items()}
    return type(outputs)(**kept, decide_by=outputs.decide_by)


def _joined(several: list[Outputs]) -> Outputs:
    given = [_given(each) for each in several]
    joined = {name: np.concatenate([each[name] for each in given]) for name in given[0]}
    return type(several[0])(**joined, decide_by=several[0].decide_by)


def _given(outputs: Outputs) -> dict[str, Floats]:
    """The outputs that the file gives, by name."""
    values = {name: getattr(outputs, name) for name in SCHEMA_2_OUTPUTS}
    return {name: value for name, value in values.items() if value is not None}
