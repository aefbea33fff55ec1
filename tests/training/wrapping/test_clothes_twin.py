"""A softmax classifier on the body of the embedded clothes model, as plain ONNX, wrapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from class_folders import write_class_folders
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from plain_classifier import CLASSES, Pixels, draw
from scipy.stats import kstest, kstwobign

import isoserve as iso
from isoserve.models.backbones import build_backbone
from isoserve.models.served_model import FEATURES
from isoserve.training.onnx_graph import read_model, run_graph, up_to
from isoserve.training.wrapping.network import run
from isoserve.training.wrapping.preprocessing import Preprocessing

CLOTHES = Path(__file__).parents[3] / "model_repository/clothes/1/model.onnx"
SIDE = 96
"""The body takes any multiple of 32; this is a fifth of the work of 224."""

EXPECTED = build_backbone("efficientnet_lite0").preprocessing
assert EXPECTED is not None
STATED = Preprocessing(EXPECTED.mean, EXPECTED.std)


def photos(n: int, seed: int) -> tuple[Pixels, NDArray[np.int64]]:
    pixels, labels = draw(n, seed)
    return pixels.repeat(SIDE // 16, axis=1).repeat(SIDE // 16, axis=2), labels


def folder(root: Path, n: int, seed: int) -> Path:
    return write_class_folders(root, *photos(n, seed), CLASSES)


def body() -> onnx.ModelProto:
    """Normalised images [N, 3, H, W] -> features [N, 1280]."""
    model, _ = read_model(CLOTHES)
    normalized = next(node.output[0] for node in model.graph.node if node.op_type == "Div")
    found = up_to(model, FEATURES, normalized)
    del found.graph.input[:]
    shape = ["N", 3, SIDE, SIDE]
    found.graph.input.append(helper.make_tensor_value_info(normalized, TensorProto.FLOAT, shape))
    return found


def twin(path: Path, *, probabilities: bool) -> Path:
    """The body with a softmax layer that was trained on its features of 90 images."""
    model = body()
    pixels, labels = photos(90, seed=1)
    (features,) = run(model, STATED.apply(pixels), [FEATURES])
    torch.manual_seed(0)
    layer = torch.nn.Linear(features.shape[1], len(CLASSES))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    for _ in range(60):
        logits = layer(torch.from_numpy(features))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    graph = model.graph
    for name, weights in layer.state_dict().items():
        graph.initializer.append(numpy_helper.from_array(weights.numpy(), name))
    graph.node.append(helper.make_node("Gemm", [FEATURES, "weight", "bias"], ["logits"], transB=1))
    output = "logits"
    if probabilities:
        graph.node.append(helper.make_node("Softmax", [output], ["shares"], axis=1))
        output = "shares"
    del graph.output[:]
    shape = ["N", len(CLASSES)]
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)
    return path


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_softmax_twin_of_the_clothes_model_gives_verdicts(
    probabilities: bool, tmp_path: Path
) -> None:
    target = tmp_path / "model.onnx"
    card = iso.wrap(
        twin(tmp_path / "twin.onnx", probabilities=probabilities),
        target,
        images=folder(tmp_path / "images", 150, seed=2),
        training=folder(tmp_path / "training", 90, seed=1),
        mean=STATED.mean,
        std=STATED.std,
        expect_accuracy=0.85,
        name="twin",
    )
    assert (card.schema_version, card.score, card.loss) == (2, "combined", "softmax")
    assert (card.input.height, card.input.width) == (SIDE, SIDE)
    model, _ = read_model(target)
    pixels, labels = photos(150, seed=3)
    found = run_graph(model, pixels)
    assert (found["probabilities"].argmax(axis=1) == labels).mean() > 0.8
    # Uniform on fresh images of the same kind: both samples are finite.
    n = 1 / (1 / len(pixels) + 1 / card.calibration.n)
    assert kstest(found["p_value"], "uniform").statistic < kstwobign.ppf(0.99) / np.sqrt(n)
    noise = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), dtype=np.uint8)
    assert (run_graph(model, noise)["p_value"] <= 0.05).all()
