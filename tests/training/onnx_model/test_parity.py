"""What an export's check lets pass, and what it refuses, of networks with long features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import isoserve as iso
from isoserve.models.errors import InputError
from isoserve.models.heads import HEADS, Head
from isoserve.training.onnx_graph import Outputs, read_model, run_graph
from isoserve.training.onnx_model import parity

COLOURS = np.array([(40, 40, 160), (40, 160, 40), (160, 40, 40)])
SIDE = 16


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    noise = generator.normal(0, 60, (count, SIDE, SIDE, 3))
    pixels = np.clip(COLOURS[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    return pixels, labels


def with_long_features(loss: str, length: float) -> iso.Classifier:
    """A network whose features are so long, with a head that tells its classes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 128)]
    for _ in range(6):
        layers += [nn.ReLU(), nn.Linear(128, 128)]
    body = nn.Sequential(*layers).eval()
    pixels, labels = draw(90, seed=1)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        last = layers[-1]
        assert isinstance(last, nn.Linear)
        last.bias.sub_(body(images).mean(dim=0))
        factor = length / body(images).norm(dim=1).mean()
        last.weight.mul_(factor)
        last.bias.mul_(factor)
        features = body(images)
        head: Head = HEADS[loss](128, 3)
        means = torch.stack([features[labels == label].mean(dim=0) for label in range(3)])
        if loss == "softmax":
            assert isinstance(head, iso.SoftMaxHead)
            head.linear.weight.copy_(means * 0.01 / length)
            head.linear.bias.copy_(-means.square().sum(dim=1) * 0.005 / length)
        else:
            assert isinstance(head, iso.IsoMax2Head)
            head.prototypes.copy_(0.01 * means)  # begun at zero, as prototypes are
            head.scales.fill_(1.0)
    return iso.Classifier(body, head).eval()


def just_begun() -> iso.Classifier:
    """Prototypes that are far nearer to each other than to the features."""
    network = with_long_features("isomax2", 2.0)
    with torch.no_grad():
        network.head.prototypes.mul_(0.01)
    return network


def export(network: nn.Module, folder: Path) -> Path:
    path = folder / "model.onnx"
    iso.export(
        network,
        path,
        calibration=draw(120, seed=2),
        training=draw(120, seed=3),
        classes=["blue", "green", "red"],
        input_size=SIDE,
        name="long",
    )
    return path


@pytest.mark.parametrize("loss", ["isomax2", "softmax"])
def test_a_network_with_long_features_is_exported(loss: str, tmp_path: Path) -> None:
    model, _ = read_model(export(with_long_features(loss, 700.0), tmp_path))
    pixels, labels = draw(300, seed=4)
    outputs = run_graph(model, pixels)
    assert outputs["boundary_score"].max() > 300
    assert (outputs["probabilities"].argmax(axis=1) == labels).mean() > 0.9


def test_a_head_just_begun_is_exported(tmp_path: Path) -> None:
    assert export(just_begun(), tmp_path).is_file()


@pytest.mark.parametrize(
    ("output", "wrong", "told"),
    [
        ("distances", lambda values: values * np.float32(1.001), "distances at batch 1"),
        ("boundary_score", lambda values: values * np.float32(1.1), "boundary_score at batch 1"),
        ("density_score", lambda values: values * np.float32(1.01), "density_score at batch 1"),
        ("entropic_score", lambda values: values - np.float32(1e-4), "entropic_score at batch 1"),
        ("probabilities", lambda values: values[:, ::-1], "probabilities at batch 1"),
        ("ood_score", lambda values: values + np.float32(0.01), "ood_score at batch 1"),
        ("p_value", lambda values: values + np.float32(1e-4), "p_value at batch 1"),
        ("class_p_value", lambda values: values + np.float32(1e-4), "class_p_value at batch 1"),
        ("entropic_p_value", lambda values: values * np.float32("nan"), "differs by nan"),
    ],
)
def test_one_whose_graph_is_wrong_is_refused(
    output: str,
    wrong: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(model: onnx.ModelProto, pixels: NDArray[np.uint8], batch_size: int) -> Outputs:
        outputs = run_graph(model, pixels, batch_size)
        return outputs | {output: wrong(outputs[output])}

    monkeypatch.setattr(parity, "run_graph", broken)
    with pytest.raises(InputError, match=told):
        export(with_long_features("isomax2", 700.0), tmp_path)
    assert not list(tmp_path.iterdir())
