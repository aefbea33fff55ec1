"""The optimisers: SGD with Nesterov momentum, and Muon for the filters of convolutions.

[Muon] Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from isoserve.models.classifier import Classifier
from isoserve.models.heads import IsoMax2Head
from isoserve.training.recipe import Recipe

FILTER_MOMENTUM = 0.6
"""Orthogonal steps are large and alike from step to step: a long memory overshoots ([Muon])."""


def make_optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; IsoMax2's scales and tilts in a group of their own, the last.

    By default undecayed and at a tenth of the rate: [IsoMax2] table 3. Prototypes and batch
    normalisation are decayed like everything else. Weights that are not trained are in no group.
    """
    own: list[nn.Parameter] = []
    if isinstance(classifier.head, IsoMax2Head):
        own = [classifier.head.scales, classifier.head.tilts]
    trained = [p for p in classifier.parameters() if p.requires_grad]
    rest = [p for p in trained if all(p is not other for other in own)]
    groups: list[dict[str, Any]] = []
    if recipe.optimizer == "muon":
        filters = [p for p in rest if p.ndim == 4]
        rest = [p for p in rest if p.ndim != 4]
        rate = recipe.filter_learning_rate
        groups.append(
            {
                "params": filters,
                "lr": rate,
                "momentum": FILTER_MOMENTUM,
                "weight_decay": 0.0,
                "orthogonal": True,
            }
        )
    if recipe.optimizer == "adamw":
        groups += _by_depth(rest, classifier, recipe)
    else:
        rate, decay = recipe.learning_rate, recipe.weight_decay
        groups.append({"params": rest, "lr": rate, "weight_decay": decay})
    if own:
        rate = recipe.learning_rate * recipe.scale_learning_rate
        groups.append({"params": own, "lr": rate, "weight_decay": recipe.scale_weight_decay})
    for group in groups:
        group["initial_lr"] = group["lr"]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    if recipe.optimizer == "muon":
        return Muon(groups, momentum=recipe.momentum)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _by_depth(
    weights: list[nn.Parameter], classifier: Classifier, recipe: Recipe
) -> list[dict[str, Any]]:
    """The body at a lower rate than the head; its biases and normalisation are not decayed."""
    body = {id(weight) for weight in classifier.backbone.parameters()}
    rate = recipe.learning_rate * recipe.body_learning_rate
    parts = (
        ([p for p in weights if id(p) in body and p.ndim > 1], rate, recipe.weight_decay),
        ([p for p in weights if id(p) in body and p.ndim <= 1], rate, 0.0),
        ([p for p in weights if id(p) not in body], recipe.learning_rate, recipe.weight_decay),
    )
    return [
        {"params": part, "lr": part_rate, "weight_decay": decay}
        for part, part_rate, decay in parts
        if part
    ]


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum, whose step is orthogonalised in groups marked ``orthogonal``.

    A filter bank [out, in, h, w] is taken as a matrix [out, in * h * w]: its step has singular
    values near 1 whatever the gradient's are, so rare directions are learned as fast as common
    ones ([Muon]). Batch normalisation follows each bank, so its length says nothing and is held at
    the root of ``out``; weight decay does not apply to it.
    """

    def __init__(self, params: Iterable[dict[str, Any]], momentum: float) -> None:
        defaults = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step down the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            change = self._filters if group["orthogonal"] else self._others
            change([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _filters(self, banks: list[Tensor], group: dict[str, Any]) -> None:
        for bank in banks:
            direction = self._direction(bank, bank.grad, group["momentum"])
            step = orthogonalise(direction.reshape(len(bank), -1)).reshape(bank.shape)
            bank.mul_(len(bank) ** 0.5 / bank.norm().clamp(min=1e-7))
            bank.add_(step.to(bank.dtype), alpha=-group["lr"])

    def _others(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            assert weight.grad is not None
            gradient = weight.grad.add(weight, alpha=group["weight_decay"])
            weight.add_(self._direction(weight, gradient, group["momentum"]), alpha=-group["lr"])

    def _direction(self, weight: Tensor, gradient: Tensor | None, momentum: float) -> Tensor:
        assert gradient is not None
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"].mul_(momentum).add_(gradient)
        return gradient.add(buffer, alpha=momentum)


def orthogonalise(matrix: Tensor, steps: int = 3) -> Tensor:
    """The nearest half-orthogonal matrix, roughly: [M, N] -> [M, N], singular values near 1.

    The fifth-degree Newton-Schulz iteration of [Muon], whose coefficients reach 0.7 to 1.2 in a
    few steps and then hover there; exactness brings nothing. bfloat16 suffices on accelerators.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if matrix.device.type == "cuda" else matrix.float()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if tall else x
    return result
