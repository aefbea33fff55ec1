"""``--recipe fast``: a small network trained well in few epochs, on one processor or one GPU.

After Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), and his Muon. What each
choice brought for accuracy and for rejecting classes that were held out is in
docs/results/README.md.
"""

from __future__ import annotations

from isoserve.training.recipes.precision import native_precision
from isoserve.training.recipes.way import Way
from isoserve.training.trainer import fit

FAST = Way(
    fit,
    {
        "network": "whitened_resnet_32",
        "epochs": 40,
        "batch_size": 500,
        "optimizer": "muon",
        "learning_rate": 0.05,
        "weight_decay": 5e-4,
        "schedule": "one-cycle",
        "augmentation": "translate",
        "averaging": 0.99,
        "precision": native_precision(),
    },
)
