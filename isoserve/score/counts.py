"""What is kept of many verdicts: counts, which are merged by addition."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel

from isoserve.client.results import Problem
from isoserve.local_model import Result
from isoserve.service.observability.p_value_window import FINE_BUCKETS


class Counts(BaseModel):
    """Of the images of a unit, or of all."""

    images: int = 0
    rejected: int = 0
    failed: int = 0
    errors: dict[str, int] = {}
    """Images without a verdict, by reason."""
    by_class: list[int]
    """Images predicted as each class."""
    rejected_by_class: list[int]
    p_values: list[int] = [0] * FINE_BUCKETS
    """Images by p-value, in buckets of equal width, which in-distribution images fill evenly."""

    @classmethod
    def empty(cls, classes: int) -> Self:
        """No images yet."""
        return cls(by_class=[0] * classes, rejected_by_class=[0] * classes)

    def add(self, result: Result) -> None:
        """Count one image."""
        self.images += 1
        if isinstance(result, Problem):
            self.failed += 1
            self.errors[result.reason] = self.errors.get(result.reason, 0) + 1
            return
        self.by_class[result.prediction.index] += 1
        bucket = int(np.ceil(np.float64(result.ood.p_value) * FINE_BUCKETS - 1e-6)) - 1
        self.p_values[min(max(bucket, 0), FINE_BUCKETS - 1)] += 1
        if result.ood.is_ood:
            self.rejected += 1
            self.rejected_by_class[result.prediction.index] += 1

    def __add__(self, other: Counts) -> Counts:
        reasons = sorted({*self.errors, *other.errors})
        return Counts(
            images=self.images + other.images,
            rejected=self.rejected + other.rejected,
            failed=self.failed + other.failed,
            errors={r: self.errors.get(r, 0) + other.errors.get(r, 0) for r in reasons},
            by_class=_sum(self.by_class, other.by_class),
            rejected_by_class=_sum(self.rejected_by_class, other.rejected_by_class),
            p_values=_sum(self.p_values, other.p_values),
        )

    @property
    def judged(self) -> int:
        """Images that have a verdict."""
        return self.images - self.failed


def _sum(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
