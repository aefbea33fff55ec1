"""Is what comes in still what the model was calibrated on? Counts of p-values, and three answers.

On in-distribution traffic the conformal p-value is uniform, whatever the model. A window of the
last minutes is compared with that: by the Kolmogorov distance, by the population stability index,
and by the share at or below alpha. Each answer allows for the images in the window *and* for those
of the calibration, since a model calibrated on 500 images cannot know its own p-values better.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoserve.service.observability.p_value_window import FINE_BUCKETS, Counts

P_VALUE_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""On in-distribution traffic the p-value is uniform, so each bucket's share is its width."""

DRIFT_LEVEL = 0.01
"""A distance that in-distribution traffic reaches less often than this is called drift."""

CONFIDENCE = 0.95
"""Of the intervals around shares."""


def drift_document(fine: Counts, calibration: int) -> dict[str, Any]:
    """The counts against uniform, as JSON: ``histogram``, ``kolmogorov`` and ``stability``.

    Args:
        fine: int64 [FINE_BUCKETS], images by p-value.
        calibration: images that the model was calibrated on.

    Returns:
        The last two are None where there are no images.
    """
    counts = coarse(fine)
    document: dict[str, Any] = {
        "histogram": [
            {"le": le, "count": count, "expected": float(share)}
            for le, count, share in zip(
                P_VALUE_BUCKETS, counts.tolist(), expected_shares(calibration), strict=True
            )
        ],
        "kolmogorov": None,
        "stability": None,
    }
    if counts.any():
        gap, index = kolmogorov(fine, calibration), stability(counts, calibration)
        document["kolmogorov"] = asdict(gap) | {"drifted": gap.p_value < DRIFT_LEVEL}
        document["stability"] = asdict(index) | {"drifted": index.value > index.limit}
    return document


def coarse(fine: Counts) -> Counts:
    """int64 [len(P_VALUE_BUCKETS)]: the fine counts in the buckets of metrics and dashboards."""
    ends = [round(edge * FINE_BUCKETS) for edge in P_VALUE_BUCKETS]
    return np.add.reduceat(fine, [0, *ends[:-1]])


def expected_shares(calibration: int) -> NDArray[np.float64]:
    """float64 [len(P_VALUE_BUCKETS)]: in-distribution shares of the buckets, adding up to 1.

    A conformal p-value is a multiple of 1 / (calibration + 1), each equally likely.
    """
    return np.diff(_uniform(np.array(P_VALUE_BUCKETS), calibration), prepend=0.0)


@dataclass(frozen=True, slots=True)
class Kolmogorov:
    """The largest gap between the window's and the expected cumulative share."""

    distance: float
    p_value: float
    """Chance of so large a gap on in-distribution traffic; two-sample, asymptotic."""


def kolmogorov(fine: Counts, calibration: int) -> Kolmogorov:
    """Kolmogorov's distance of the window's p-values to uniform.

    A conformal p-value is a rank among the calibration scores, so this is Smirnov's statistic of
    the window's scores against the calibration's, and its significance is that of two samples.
    Read at the fine edges only, it may be too small by their step, never too large. The tail is
    Kolmogorov's series with Stephens' (1970) correction for small samples.
    """
    images = int(fine.sum())
    edges = np.arange(1, FINE_BUCKETS + 1) / FINE_BUCKETS
    gaps = np.abs(np.cumsum(fine) / images - _uniform(edges, calibration))
    distance = float(gaps.max())
    root = math.sqrt(images * calibration / (images + calibration))
    return Kolmogorov(distance, _kolmogorov_tail((root + 0.12 + 0.11 / root) * distance))


@dataclass(frozen=True, slots=True)
class Stability:
    """The population stability index and what it may be by chance."""

    value: float
    limit: float
    """In-distribution traffic of this many images stays below it but for one time in 100."""


def stability(counts: Counts, calibration: int) -> Stability:
    """PSI of the coarse counts against the expected shares, half an image added to each.

    The folk limits 0.1 and 0.25 take no account of how many images there are; the index is about
    (1/n + 1/m) times a chi-squared variable of one degree less than there are buckets.
    """
    expected = expected_shares(calibration)
    possible = expected > 0
    counts, expected = counts[possible], expected[possible]
    images = int(counts.sum())
    shares = (counts + 0.5) / (images + 0.5 * len(counts))
    value = float(((shares - expected) * np.log(shares / expected)).sum())
    chance = 1 / max(images, 1) + 1 / calibration
    return Stability(value, chance * chi_squared_quantile(1 - DRIFT_LEVEL, len(counts) - 1))


def wilson(hits: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's (1927) interval for a share of ``hits`` in ``n``; 0 to 1 for none at all."""
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def chi_squared_quantile(probability: float, degrees: int) -> float:
    """Wilson and Hilferty's (1931) approximation; within 1 % at three degrees and more."""
    z = NormalDist().inv_cdf(probability)
    ninth = 2 / (9 * degrees)
    return degrees * (1 - ninth + z * math.sqrt(ninth)) ** 3


def _uniform(edges: NDArray[np.float64], calibration: int) -> NDArray[np.float64]:
    """P(p-value <= edge) of an in-distribution image; the small term outweighs rounding."""
    return np.floor(edges * (calibration + 1) + 1e-9) / (calibration + 1)


def _kolmogorov_tail(x: float) -> float:
    if x < 0.2:  # the series converges slowly where the answer is 1 to ten digits
        return 1.0
    terms = ((-1.0) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))
