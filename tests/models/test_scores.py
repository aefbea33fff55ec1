import numpy as np
import torch
from scipy.special import softmax
from scipy.stats import entropy

from isoserve.models.scores import entropic_score, maximum_probability


def test_the_entropic_score_is_minus_the_entropy() -> None:
    logits = torch.randn(50, 10) * 5
    expected = -entropy(softmax(logits.double().numpy(), axis=1), axis=1)
    np.testing.assert_allclose(entropic_score(logits).numpy(), expected, atol=1e-5)


def test_it_is_zero_when_certain_and_minus_log_c_when_ignorant() -> None:
    certain = torch.tensor([[0.0, -1e4, -1e4]])
    ignorant = torch.zeros(1, 3)
    scores = entropic_score(torch.cat([certain, ignorant]))
    np.testing.assert_allclose(scores.numpy(), [0.0, -np.log(3)], atol=1e-6)


def test_the_maximum_probability() -> None:
    logits = torch.randn(50, 10)
    expected = softmax(logits.double().numpy(), axis=1).max(axis=1)
    np.testing.assert_allclose(maximum_probability(logits).numpy(), expected, atol=1e-6)
