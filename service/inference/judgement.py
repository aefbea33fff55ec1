"""The network's outputs on a batch, each row checked: what cannot be right is no verdict.

A model is tried on random pixels when it is loaded; an image may still bring it to answer with
what is not finite or out of range, or to fail. That image alone is refused then, not its batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isoserve.models.card import SCHEMA_2_OUTPUTS
from isoserve.service.inference.outputs import Floats, Outputs, Pixels

FAILED = "inference_failed"
"""Reason of the answer to an image that the network fails on; its batch's others are answered."""

SUM_TOLERANCE = 1e-3
"""Of the probabilities' sum, and of an entropy at its bounds: float32 rounds."""

FEW = 64
"""Values up to here are compared faster one by one than by two of NumPy's reductions."""

P_VALUES = frozenset(("p_value", "class_p_value", "entropic_p_value"))
SAME_IN_SCHEMA_1 = frozenset(("ood_score", "entropic_p_value"))
"""There these are the very arrays of the entropic score and its p-value."""

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
    if all(_all_within(values, low, high) for _, values, low, high in _bounded(outputs)):
        return {}
    found: dict[int, str] = {}
    for name, values, low, high in _bounded(outputs):
        table = values.reshape(len(values), -1)
        sound = ((table >= low) & (table <= high)).all(axis=1)
        for row in np.flatnonzero(~sound).tolist():
            found.setdefault(row, _fault(name, table[row], low, high))
    return found


def first_line(error: Exception) -> str:
    """An exception's message, in one bounded line."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _bounded(outputs: Outputs) -> Iterator[tuple[str, Floats, float, float]]:
    """Each output and the least and largest value it may have, float32."""
    probabilities = outputs.probabilities
    least_entropy = -math.log(max(probabilities.shape[1], 1)) - SUM_TOLERANCE
    for name in SCHEMA_2_OUTPUTS:
        values = getattr(outputs, name)
        if values is None or (name in SAME_IN_SCHEMA_1 and outputs.density_score is None):
            continue
        if name in P_VALUES:
            yield name, values, _SMALLEST, 1.0
        elif name == "probabilities":
            yield name, values, 0.0, 1.0 + SUM_TOLERANCE
        elif name == "entropic_score":
            yield name, values, least_entropy, SUM_TOLERANCE
        else:
            yield name, values, -_LARGEST, _LARGEST
    sums = np.add.reduce(probabilities, axis=1)
    yield "the sum of probabilities", sums, 1.0 - SUM_TOLERANCE, 1.0 + SUM_TOLERANCE


def _all_within(values: Floats, low: float, high: float) -> bool:
    if values.size > FEW:
        # NumPy's least and largest of what has a NaN is NaN, and no comparison with it holds.
        least, largest = np.minimum.reduce(values, axis=None), np.maximum.reduce(values, axis=None)
        return bool(least >= low and largest <= high)
    one_by_one = values.ravel().tolist()
    return min(one_by_one) >= low and max(one_by_one) <= high and not math.isnan(sum(one_by_one))


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
