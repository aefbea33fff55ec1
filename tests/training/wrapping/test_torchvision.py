"""Classifiers as torchvision makes them, taught colours, wrapped as a module and as ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_folders import write_class_folders
from library_networks import CLASSES, SIZE, draw, learnt, scaled
from scipy.special import softmax
from scipy.stats import kstest, kstwobign
from torch import nn

import isoserve as iso
from isoserve.models.backbones.backbone import Preprocessing
from isoserve.models.torchvision_import import import_torchvision
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.wrapping.preprocessing import IMAGENET

STATED = Preprocessing(*IMAGENET)


def taught(name: str) -> nn.Module:
    """A network of torchvision's that tells three colours."""
    torch.manual_seed(0)
    zoo: Any = import_torchvision("torchvision.models")
    return learnt(zoo.get_model(name, weights=None, num_classes=len(CLASSES)), STATED, penalty=0.01)


def as_onnx(network: nn.Module, folder: Path) -> Path:
    """As torchvision's documentation writes it: logits, an input of the given side."""
    path = folder / "classifier.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, SIZE, SIZE),),
            path,
            input_names=["input"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
    return path


@pytest.fixture(scope="module", name="photos")
def _photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(
        tmp_path_factory.mktemp("wrapped") / "photos", *draw(600, seed=2), CLASSES
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "given"),
    [("resnet18", lambda network, _: network), ("mobilenet_v3_small", as_onnx)],
)
def test_a_classifier_of_torchvisions_gives_verdicts(
    name: str,
    given: Callable[[nn.Module, Path], nn.Module | Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    network = taught(name)
    target = tmp_path / "model.onnx"
    card = iso.wrap(
        given(network, tmp_path),
        target,
        images=photos,
        input_size=SIZE,
        mean=STATED.mean,
        std=STATED.std,
        name="colours",
    )
    assert (card.schema_version, card.score, card.loss) == (2, "combined", "softmax")
    pixels, labels = draw(400, seed=5)
    found = run_graph(read_model(target)[0], pixels)
    with torch.no_grad():
        own = softmax(network(scaled(pixels, STATED)).double().numpy(), axis=1)
    assert np.abs(softmax(-found["distances"], axis=1) - own).max() < 1e-4
    assert (own.argmax(axis=1) == labels).mean() > 0.9

    # Uniform on fresh images of the same kind: both samples are finite.
    n = 1 / (1 / len(pixels) + 1 / card.calibration.n)
    assert kstest(found["p_value"], "uniform").statistic < kstwobign.ppf(0.99) / np.sqrt(n)
