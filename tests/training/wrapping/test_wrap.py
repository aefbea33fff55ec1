"""A classifier trained with a plain softmax layer -> a model.onnx that gives verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image
from plain_classifier import (
    CLASSES,
    MEAN,
    SIZE,
    STATED,
    STD,
    Net,
    Pixels,
    Variant,
    draw,
    prepared,
    variant,
)
from running_server import StartServer
from scipy.special import softmax
from scipy.stats import kstest, kstwobign

import isoserve as iso
from isoserve.models.card import SCHEMA_2_OUTPUTS
from isoserve.training.onnx_graph import read_model, run_graph


def probabilities_of(net: Net, pixels: Pixels) -> NDArray[np.float64]:
    with torch.no_grad():
        return softmax(net(torch.from_numpy(prepared(pixels))).double().numpy(), axis=1)


def check_verdicts(path: Path, net: Net) -> None:
    """Schema 2, the classifier's own classes, and p-values that tell foreign from own."""
    model, card = read_model(path)
    assert tuple(output.name for output in model.graph.output) == SCHEMA_2_OUTPUTS
    assert (card.schema_version, card.score, card.loss) == (2, "combined", "softmax")
    assert card.classes == list(CLASSES)
    pixels, _ = draw(60, seed=5)
    found = run_graph(model, pixels)
    own = probabilities_of(net, pixels)
    assert np.abs(softmax(-found["distances"], axis=1) - own).max() < 1e-4
    entropy = (own * np.log(own)).sum(axis=1)
    assert np.abs(found["entropic_score"] - entropy).max() < 1e-4
    foreign = run_graph(model, np.full((4, SIZE, SIZE, 3), 255, np.uint8))["p_value"]
    assert (foreign <= 0.05).all()
    assert (found["p_value"] <= 0.05).mean() < 0.2


def test_an_onnx_file_of_a_fixed_batch_and_an_older_opset(
    logits: Path, photos: Path, net: Net, tmp_path: Path, start_server: StartServer
) -> None:
    target = tmp_path / "repository" / "colours" / "1" / "model.onnx"
    card = iso.wrap(logits, target, images=photos, **STATED, name="colours")
    check_verdicts(target, net)
    assert card.statistics is not None
    assert card.combination is not None
    # Statistics, scales and calibration each have images of their own, and use all there are.
    assert card.statistics.n + card.combination.n + card.calibration.n == 1500

    fresh, _ = draw(400, seed=77)
    p_values = run_graph(read_model(target)[0], fresh)["p_value"]
    n = 1 / (1 / len(fresh) + 1 / card.calibration.n)  # both samples are finite
    assert kstest(p_values, "uniform").statistic < kstwobign.ppf(0.99) / np.sqrt(n)

    server = start_server(tmp_path / "repository")
    pngs = []
    for image in (fresh[0], np.full((40, 50, 3), 255, np.uint8)):
        Image.fromarray(image).save(tmp_path / "sent.png")
        pngs.append((tmp_path / "sent.png").read_bytes())
    known, unknown = (server.post("/v1/predict", content=png).json() for png in pngs)
    assert known["prediction"]["label"] == "blue"
    assert known["ood"]["score"] == "combined"
    assert known["ood"]["p_value"] == pytest.approx(float(p_values[0]), abs=1e-6)
    assert unknown["ood"]["is_ood"] is True


def test_a_module_keeps_its_mode_and_its_features_are_found(
    net: Net, few: Path, tmp_path: Path
) -> None:
    net.train()
    iso.wrap(net, tmp_path / "model.onnx", images=few, input_size=SIZE, **STATED)
    assert net.training
    net.eval()
    assert not any(module._forward_hooks for module in net.modules())
    check_verdicts(tmp_path / "model.onnx", net)


@pytest.mark.parametrize("features", ["fc", "drop"])
def test_the_features_of_a_module_are_named(
    net: Net, few: Path, tmp_path: Path, features: str
) -> None:
    path = tmp_path / "model.onnx"
    iso.wrap(net, path, images=few, input_size=SIZE, **STATED, features=features)
    check_verdicts(path, net)


def with_probabilities(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["shares"], axis=-1))
    model.graph.output[0].name = "shares"


def with_a_softmax_written_out(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        [
            helper.make_node("Exp", ["logits"], ["powers"]),
            helper.make_node("ReduceL1", ["powers"], ["sum"], axes=[1], keepdims=1),
            helper.make_node("Div", ["powers", "sum"], ["shares"]),
        ]
    )
    model.graph.output[0].name = "shares"


def with_matmul_and_add(model: onnx.ModelProto) -> None:
    (gemm,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    taken, weight, bias = gemm.input
    (matrix,) = [each for each in model.graph.initializer if each.name == weight]
    turned = numpy_helper.to_array(matrix).T.copy()
    matrix.CopyFrom(numpy_helper.from_array(turned, weight))
    model.graph.node.remove(gemm)
    model.graph.node.append(helper.make_node("MatMul", [taken, weight], ["product"]))
    model.graph.node.append(helper.make_node("Add", ["product", bias], ["logits"]))


def with_channels_last(model: onnx.ModelProto) -> None:
    first = next(node for node in model.graph.node if "image" in node.input)
    first.input[0] = "planes"
    turn = helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, turn)
    shape = model.graph.input[0].type.tensor_type.shape
    for dim, size in zip(shape.dim, (1, SIZE, SIZE, 3), strict=True):
        dim.dim_value = size


def gemm_input(logits: Path) -> str:
    return next(n.input[0] for n in onnx.load_model(logits).graph.node if n.op_type == "Gemm")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_probabilities, False),
        (with_a_softmax_written_out, True),
        (with_matmul_and_add, False),
        (with_channels_last, False),
    ],
)
def test_graphs_as_other_exporters_write_them(
    logits: Path, few: Path, net: Net, tmp_path: Path, change: Variant, named: bool
) -> None:
    classifier = variant(logits, tmp_path / "classifier.onnx", change)
    features = gemm_input(logits) if named else None
    target = tmp_path / "model.onnx"
    iso.wrap(classifier, target, images=few, **STATED, features=features)
    check_verdicts(target, net)


def test_a_network_of_bgr_in_0_to_255(logits: Path, few: Path, net: Net, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        first = next(node for node in model.graph.node if "image" in node.input)
        first.input[0] = "rgb"
        order = numpy_helper.from_array(np.array([2, 1, 0]), "order")
        model.graph.initializer.append(order)
        model.graph.node.insert(0, helper.make_node("Gather", ["image", "order"], ["rgb"], axis=1))

    classifier = variant(logits, tmp_path / "classifier.onnx", change)
    mean, std = ([255 * each for each in values[::-1]] for values in (MEAN, STD))
    target = tmp_path / "model.onnx"
    of_bytes = {"mean": mean, "std": std, "value_range": "0..255"}
    iso.wrap(classifier, target, images=few, bgr=True, **of_bytes)
    check_verdicts(target, net)
    with pytest.raises(iso.InputError, match=r"likely cause: --bgr would give (0\.9|1\.0)"):
        iso.wrap(classifier, tmp_path / "none.onnx", images=few, **of_bytes, expect_accuracy=0.95)
    assert not (tmp_path / "none.onnx").exists()
