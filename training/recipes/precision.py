"""The arithmetic that this machine multiplies fastest."""

from __future__ import annotations

import torch


def native_precision() -> str:
    """bfloat16 where this machine multiplies it natively; elsewhere it would only be slower."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"
