"""Small frozen networks for the detectors: a linear one, whose gradient is known, and others."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from isoserve.models.classifier import Classifier, build_classifier
from isoserve.models.heads import SoftMaxHead
from isoserve.training.baselines.frozen_network import TrainedNetwork

SIDE, CLASSES = 8, 3


def trained(network: str, loss: str = "softmax") -> TrainedNetwork:
    """An untrained network in the clothes of a trained one: the arithmetic is the same."""
    torch.manual_seed(0)
    classifier = build_classifier(network, loss, CLASSES).eval()
    checkpoint = SimpleNamespace(
        classifier=lambda: classifier, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3]
    )
    return TrainedNetwork(checkpoint)


@pytest.fixture
def make_network() -> Callable[..., TrainedNetwork]:
    return trained


@pytest.fixture
def linear_network() -> TrainedNetwork:
    """Logits W x + b of the flattened input."""
    network = trained("resnet20_32")
    torch.manual_seed(1)
    head = SoftMaxHead(3 * SIDE * SIDE, CLASSES)
    # SoftMaxHead computes in float32; small whole numbers are exact there.
    head.linear.weight.data = torch.randint(-3, 4, head.linear.weight.shape) / 32.0
    network.classifier = Classifier(nn.Flatten(), head).eval().requires_grad_(False)
    return network


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    # Networks this small wait for each other's threads more than they compute, a hundred times
    # more where another program has the cores.
    torch.set_num_threads(1)
