"""Running means of what a training or a split shows."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor

from isoserve.models.heads import Logits
from isoserve.models.scores import entropic_score


class RunningMeans:
    """Running means over images, summed over processes when read."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.sums = torch.zeros(4, dtype=torch.float64, device=fabric.device)

    def add(self, loss: Tensor, logits: Logits, targets: Tensor) -> None:
        count = len(targets)
        correct = (logits.cold_logits.argmax(dim=1) == targets).sum()
        entropy = -entropic_score(logits.score_logits.detach()).sum()
        self.sums += torch.stack(
            [loss.detach() * count, correct.to(loss), entropy, torch.tensor(float(count)).to(loss)]
        ).to(self.sums)

    def means(self) -> dict[str, float]:
        sums = self.fabric.all_reduce(self.sums.clone(), reduce_op="sum")
        loss, correct, entropy, count = torch.as_tensor(sums).tolist()
        return {"loss": loss / count, "accuracy": correct / count, "entropy": entropy / count}
