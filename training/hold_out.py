"""How many images are held out to calibrate on, and which."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isoserve.models.errors import InputError


def hold_out(
    labels: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split indices into (training, held out), stratified by class and fixed by the seed.

    Each class gives its share of ``count``, at least one image and never its last.
    """
    generator = np.random.default_rng([seed, len(labels)])
    held_out = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        share = round(count * len(members) / len(labels))
        held_out.append(members[: min(max(share, 1), len(members) - 1)])
    chosen = np.sort(np.concatenate(held_out))
    mask = np.ones(len(labels), dtype=bool)
    mask[chosen] = False
    return np.flatnonzero(mask), chosen


def held_out_count(total: int, fraction: float, alpha: float, delta: float) -> int:
    """How many of ``total`` images to hold out: the fraction, but enough to calibrate.

    Raises:
        InputError: calibration would take more than half of the images.
    """
    needed = smallest_calibration(alpha, delta)
    if needed > total // 2:
        raise InputError(
            f"{total} training images are too few to calibrate: at alpha {alpha} and delta "
            f"{delta} at least {needed} must be held out, so give at least {2 * needed} images "
            "or a larger alpha"
        )
    return max(round(fraction * total), needed)


def smallest_calibration(alpha: float, delta: float) -> int:
    """Fewest calibration images n with P(rejected share <= alpha) >= 1 - delta possible.

    The share at the smallest score is Beta(1, n) (Bates et al., 2023): 59 at alpha = delta = 0.05.
    """
    n = max(1, math.ceil(math.log(delta) / math.log1p(-alpha)) - 1)
    while -math.expm1(n * math.log1p(-alpha)) < 1 - delta:  # rounding may be off by one
        n += 1
    return n


def evenly_spread(count: int, limit: int | None) -> NDArray[np.int64]:
    """Indices of ``limit`` of ``count`` images in order: folders come class by class."""
    wanted = count if limit is None else min(count, limit)
    return np.arange(wanted) * count // wanted
