"""The distance to the nearest class boundary against an optimiser that walks there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from isoserve.models.boundaries import boundary_score, boundary_table
from isoserve.models.heads import HEADS, Head, IsoMax2Head, IsoMaxPlusHead


def made(loss: str, tilt: float = 0.0) -> Head:
    """A head of 4 classes and 5 features with weights as a training leaves them."""
    generator = torch.Generator().manual_seed(1)
    head = HEADS[loss](5, 4)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if isinstance(head, IsoMax2Head):
            head.scales.copy_(torch.tensor([8.3, 9.2, 10.1, 9.7]))
            head.tilts.mul_(tilt)
        if isinstance(head, IsoMaxPlusHead):
            head.distance_scale.fill_(2.5)
    return head.double()


def walked(head: Head, features: np.ndarray, predicted: int) -> float:
    """Distance to the nearest point whose two largest cold logits are equal."""
    unit = isinstance(head, IsoMaxPlusHead)  # its features live on directions: no length

    def logits(point: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return head.logits(torch.from_numpy(point)[None]).cold_logits[0].numpy()

    if unit:
        features = features / np.linalg.norm(features)
        prototypes = torch.nn.functional.normalize(head.prototypes.detach()).numpy()

        def logits(point: np.ndarray) -> np.ndarray:
            return -np.linalg.norm(point - prototypes, axis=1)

    nearest = np.inf
    for other in set(range(4)) - {predicted}:
        for start in (0.1, 0.5, 0.9):
            target = np.random.default_rng(other).normal(size=features.shape)
            found = minimize(
                lambda point: ((point - features) ** 2).sum(),
                features + start * (target - features),
                jac=lambda point: 2 * (point - features),
                constraints={
                    "type": "eq",
                    "fun": lambda point, j=other: logits(point)[predicted] - logits(point)[j],
                },
                method="SLSQP",
                options={"maxiter": 300, "ftol": 1e-12},
            )
            if found.success:
                nearest = min(nearest, float(np.sqrt(found.fun)))
    return nearest


@pytest.mark.parametrize(
    ("loss", "tilt", "tolerance"),
    [
        ("softmax", 0.0, 1e-5),
        ("isomax", 0.0, 1e-5),
        ("isomax+", 0.0, 1e-5),
        ("isomax2", 0.0, 1e-5),
        ("isomax2", 0.02, 2e-3),  # larger than tilts become in training
        ("isomax2", 0.2, 2e-2),
    ],
)
def test_it_is_the_way_to_the_nearest_other_class(loss: str, tilt: float, tolerance: float) -> None:
    head = made(loss, tilt)
    features = torch.from_numpy(np.random.default_rng(3).normal(size=(6, 5)))
    with torch.no_grad():
        logits = head.logits(features)
        predicted = logits.cold_logits.argmax(dim=1)
        found = boundary_score(
            head, boundary_table(head).double(), logits.cold_logits, predicted
        ).numpy()
    for row, value in enumerate(found):
        expected = walked(head, features[row].numpy(), int(predicted[row]))
        assert value == pytest.approx(expected, rel=tolerance, abs=1e-6)


def test_on_a_boundary_it_is_zero_and_on_a_prototype_it_is_finite() -> None:
    head = IsoMax2Head(3, 3)
    with torch.no_grad():
        head.prototypes.copy_(torch.eye(3))
        features = torch.stack([torch.tensor([0.5, 0.5, 0.0]), head.prototypes[2]])
        logits = head(features)
        predicted = logits.cold_logits.argmax(dim=1)
        found = boundary_score(head, boundary_table(head), logits.cold_logits, predicted)
    assert found[0].item() == pytest.approx(0.0, abs=1e-6)
    assert found[1].item() == pytest.approx(np.sqrt(2) / 2, rel=1e-5)


def test_a_head_of_ones_own_is_refused() -> None:
    class Own(Head):
        pass

    with pytest.raises(TypeError, match="boundaries of a Own are not known"):
        boundary_table(Own())
