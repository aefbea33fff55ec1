"""What each class weighs in the loss, where some have many more images than others."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_weights(
    kind: Literal["none", "balanced"], labels: NDArray[np.int64], classes: int
) -> Tensor | None:
    """N / (C n_c) a class, float32 [C], so that every class weighs as much; None for ``none``."""
    if kind == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    return torch.from_numpy(len(labels) / (classes * counts.clip(1))).float()
