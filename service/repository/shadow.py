"""A shadow in memory, and the counts of how it compares with the version that answers."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from isoserve.service.inference.model import Model
from isoserve.service.observability.metrics import Metrics

log = logging.getLogger("isoserve.shadow")

Rejected = Literal["both", "live", "shadow", "neither"]
REJECTED: tuple[Rejected, ...] = ("both", "live", "shadow", "neither")
"""Which of the two versions rejected an image."""

Dropped = Literal["full", "input", "gone"]
DROPPED: tuple[Dropped, ...] = ("full", "input", "gone")
"""The queue was full · only pixels at the live version's size are left · the shadow left first."""


class Comparison:
    """What came of one shadow beside one live version, in this process.

    Attributes:
        images: by whether the classes agree, and by who rejected.
    """

    def __init__(self, metrics: Metrics, model: str, live_version: int, version: int) -> None:
        key = (model, str(live_version), str(version))
        self.images: Counter[tuple[bool, Rejected]] = Counter()
        self._series = {
            (agrees, rejected): metrics.shadow_images.labels(*key, str(agrees).lower(), rejected)
            for agrees, rejected in itertools.product((True, False), REJECTED)
        }

    def count(self, agrees: bool, rejected: Rejected) -> None:
        """Count one image; only the runner's thread does."""
        self.images[agrees, rejected] += 1
        self._series[agrees, rejected].inc()


class ShadowCounts:
    """All that is counted of one shadow in this process; it does not hold the shadow.

    Attributes:
        dropped: images that it should have seen and did not, by reason.
        failed: images that it failed on.
    """

    def __init__(self, metrics: Metrics, model: str, version: int) -> None:
        self.model, self.version = model, version
        self.dropped: Counter[Dropped] = Counter()
        self.failed = 0
        self._metrics = metrics
        self._comparisons: dict[int, Comparison] = {}
        self._lock = threading.Lock()
        key = (model, str(version))
        self._dropped = {reason: metrics.shadow_dropped.labels(*key, reason) for reason in DROPPED}
        self._failures = metrics.shadow_failures.labels(*key)

    def beside(self, live_version: int) -> Comparison:
        """The comparison with a live version; the first call creates its series, at zero."""
        with self._lock:
            if live_version not in self._comparisons:
                self._comparisons[live_version] = Comparison(
                    self._metrics, self.model, live_version, self.version
                )
            return self._comparisons[live_version]

    def drop(self, reason: Dropped) -> None:
        """Count an image that the shadow does not get to see; from any thread."""
        with self._lock:
            self.dropped[reason] += 1
        self._dropped[reason].inc()

    def fail(self, images: int, fault: str = "") -> None:
        """Count images that it failed on, and log the first; without ``fault``, in an exception's
        handler."""
        if not self.failed:
            log.error(
                "shadow %s version %d fails%s; from now on that is only counted",
                *(self.model, self.version, f" ({fault})" if fault else ""),
                exc_info=not fault,
            )
        self.failed += images
        self._failures.inc(images)


@dataclass(frozen=True, slots=True)
class Shadow:
    """A shadow in memory: its model with one session, and the share of images that it sees."""

    model: Model
    share: float
    counts: ShadowCounts
