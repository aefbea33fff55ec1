"""Out-of-distribution scores of logits; for all of them higher = more in-distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def entropic_score(logits: Tensor) -> Tensor:
    """Sum of p log p with p = softmax(logits): minus the entropy, in nats.

    [IsoMax] eq. 6 prints the entropy and calls it negative; the text and the results use this
    sign. On distance logits pass -d, never +d.

    Args:
        logits: [N, C]; float32 or wider.

    Returns:
        [N], in [-ln C, 0].
    """
    # softmax * log_softmax: p * log(p) is NaN at p = 0, and NaN sorts as most in-distribution.
    return (logits.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum(dim=-1)


def maximum_probability(logits: Tensor) -> Tensor:
    """max softmax(logits), [N, C] -> [N] in [1/C, 1] (Hendrycks and Gimpel, 2017)."""
    return torch.softmax(logits, dim=-1).amax(dim=-1)
