"""``--recipe finetune``: a pretrained network is trained on, whole, on one's own photographs."""

from __future__ import annotations

from isoserve.training.recipes.precision import native_precision
from isoserve.training.recipes.way import Way
from isoserve.training.trainer import fit

FINETUNE = Way(
    fit,
    {
        "network": "efficientnet_lite0",
        "weights": "default",
        "epochs": 30,
        "batch_size": 64,
        "optimizer": "adamw",
        "learning_rate": 0.005,
        "body_learning_rate": 0.1,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "augmentation": "photo",
        "averaging": 0.99,
        "precision": native_precision(),
    },
)
