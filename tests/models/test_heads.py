"""Heads against float64 NumPy, and the numerical traps of distances."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from isoserve.models.heads import (
    HEADS,
    IsoMax2Head,
    IsoMaxHead,
    Logits,
    SoftMaxHead,
    prototype_distances,
)
from isoserve.models.scores import entropic_score

FEATURES, CLASSES, BATCH = 12, 5, 7


def _random_head(loss: str) -> torch.nn.Module:
    torch.manual_seed(0)
    head = HEADS[loss](FEATURES, CLASSES)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(0.5, 2.0)
    return head


def _distances(features: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    return np.array([[np.sqrt(((f - p) ** 2).sum()) for p in prototypes] for f in features])


@pytest.mark.parametrize("loss", HEADS)
def test_logits_are_the_papers_formulas(loss: str) -> None:
    head = _random_head(loss)
    features = torch.rand(BATCH, FEATURES)
    found = head(features)
    weights = {name: value.double().numpy() for name, value in head.state_dict().items()}
    f = features.double().numpy()
    if loss == "softmax":
        cold = score = f @ weights["linear.weight"].T + weights["linear.bias"]
    elif loss == "isomax":
        score = -_distances(f, weights["prototypes"])
        cold = 10 * score
    elif loss == "isomax2":
        score = -_distances(f, weights["prototypes"])
        cold = weights["scales"] * score - weights["tilts"]
    else:
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (f, weights["prototypes"])]
        score = -np.abs(weights["distance_scale"]) * _distances(*unit)
        cold = 10 * score
    np.testing.assert_allclose(found.cold_logits.detach().numpy(), cold, atol=1e-5)
    np.testing.assert_allclose(found.score_logits.detach().numpy(), score, atol=1e-5)


def test_a_new_isomax2_head_is_a_new_isomax_head() -> None:
    features = torch.rand(BATCH, FEATURES)
    isomax, isomax2 = IsoMaxHead(FEATURES, CLASSES), IsoMax2Head(FEATURES, CLASSES)
    torch.testing.assert_close(isomax(features), isomax2(features))


def test_the_class_is_not_always_the_nearest_prototype() -> None:
    head = IsoMax2Head(1, 2)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[0.0], [3.0]]))
        head.scales.copy_(torch.tensor([10.0, 1.0]))
    logits = head(torch.tensor([[1.0]]))
    assert logits.score_logits.argmax().item() == 0
    assert logits.cold_logits.argmax().item() == 1


def test_gradients_at_distance_zero_are_finite() -> None:
    head = IsoMax2Head(FEATURES, CLASSES)  # zero prototypes
    features = torch.zeros(BATCH, FEATURES, requires_grad=True)
    head.loss(head(features), torch.zeros(BATCH, dtype=torch.int64)).backward()
    for tensor in (features, *head.parameters()):
        assert torch.isfinite(tensor.grad).all()


def test_a_loss_at_gap_500_is_finite_with_the_right_gradient() -> None:
    cold = torch.tensor([[0.0, 500.0, 1.0]], requires_grad=True)
    loss = SoftMaxHead(1, 3).loss(Logits(cold, cold), torch.tensor([0]))
    loss.backward()
    expected = -log_softmax(np.array([0.0, 500.0, 1.0]))[0]
    assert loss.item() == pytest.approx(expected)
    torch.testing.assert_close(cold.grad, torch.tensor([[-1.0, 1.0, 0.0]]))


def test_distances_do_not_depend_on_the_batch() -> None:
    features, prototypes = torch.rand(64, 192) * 30, torch.rand(10, 192)
    whole = prototype_distances(features, prototypes)
    alone = torch.cat([prototype_distances(row[None], prototypes) for row in features])
    assert torch.equal(whole, alone)


def test_the_head_computes_in_float32_under_autocast() -> None:
    head = _random_head("isomax2")
    features = torch.rand(BATCH, FEATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = head(features)
    torch.testing.assert_close(under_autocast, head(features), rtol=0, atol=0)


def test_tilts_gradients_sum_to_zero() -> None:
    head = _random_head("isomax2")
    targets = torch.randint(0, CLASSES, (BATCH,))
    head.loss(head(torch.rand(BATCH, FEATURES)), targets).backward()
    assert head.tilts.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_the_sign_of_the_score_logits() -> None:
    # One distance of ten smaller by 2. With the papers' misprinted sign the entropy is 2.2418.
    prototypes = torch.full((10, 1), 5.0)
    prototypes[3] = 3.0
    head = IsoMax2Head(1, 10)
    head.prototypes.data.copy_(prototypes)
    score = entropic_score(head(torch.zeros(1, 1)).score_logits)
    assert score.item() == pytest.approx(-1.8949, abs=5e-5)
