"""A classifier trained with a plain softmax layer -> a model.onnx that gives verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from running_server import ROOT, StartServer
from scipy.special import softmax
from scipy.stats import kstest, kstwobign
from torch import nn

import isoserve as iso
from isoserve.models.card import SCHEMA_2_OUTPUTS
from isoserve.training.onnx_graph import read_model, run_graph

CLASSES = ("blue", "green", "red")
COLOURS = np.array([(60, 60, 170), (60, 170, 60), (170, 60, 60)])
MEAN, STD = (0.4, 0.35, 0.3), (0.2, 0.25, 0.3)
STATED = {"mean": MEAN, "std": STD}
SIZE = 16

Pixels = NDArray[np.uint8]


def draw(n: int, seed: int) -> tuple[Pixels, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    shade = generator.normal(0, 25, (n, 1, 1, 3))
    noise = generator.normal(0, 40, (n, SIZE, SIZE, 3))
    return np.clip(COLOURS[labels][:, None, None] + shade + noise, 0, 255).astype(np.uint8), labels


def prepared(pixels: Pixels) -> NDArray[np.float32]:
    """As the classifier was trained: [N, 3, H, W]."""
    found = (pixels.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return found.transpose(0, 3, 1, 2)


class Net(nn.Module):
    """torchvision's shape: a body, average pool, dropout and ``fc``."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(12, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.body(images))
        return self.fc(self.drop(features.view(features.shape[0], -1)))


@pytest.fixture(scope="module", name="net")
def _net() -> Net:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(25):
        pixels, labels = draw(48, seed=step)
        loss = nn.functional.cross_entropy(
            net(torch.from_numpy(prepared(pixels))), torch.from_numpy(labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module", name="photos")
def _photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wrapped") / "photos"
    pixels, labels = draw(1500, seed=1000)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        Image.fromarray(image).save(root / CLASSES[label] / f"{index:04d}.png", compress_level=0)
    return root


@pytest.fixture(scope="module", name="few")
def _few(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 of the images, for what needs no more."""
    root = tmp_path_factory.mktemp("few") / "few"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for file in sorted((photos / name).iterdir())[:50]:
            (root / name / file.name).symlink_to(file)
    return root


@pytest.fixture(scope="module", name="logits")
def _logits(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``torch.onnx.export`` of years writes it: opset 17, batch of one."""
    path = tmp_path_factory.mktemp("classifier") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, SIZE, SIZE),),
            path,
            input_names=["image"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
    return path


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


Variant = Callable[[onnx.ModelProto], None]


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


def variant(logits: Path, path: Path, change: Variant) -> Path:
    model = onnx.load_model(logits)
    change(model)
    onnx.save_model(model, path)
    return path


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


def isoserve_wrap(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", "wrap", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_and_its_refusal(logits: Path, few: Path, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("blue\ngreen\nred\n")
    of_all = [logits, "--images", few, "--mean", "0.4,0.35,0.3", "--std", "0.2,0.25,0.3"]
    target = tmp_path / "model.onnx"
    done = isoserve_wrap(*of_all, "--output", target, "--classes", names, "--size", SIZE)
    assert done.returncode == 0, done.stderr
    assert f"written: {target}" in done.stdout
    card = json.loads(
        onnxruntime.InferenceSession(str(target))
        .get_modelmeta()
        .custom_metadata_map["isoserve.card"]
    )
    assert card["recipe"]["recipe"] == "wrap"

    names.write_text("green\nblue\nred\n")
    wrong = isoserve_wrap(*of_all, "--output", tmp_path / "none.onnx", "--classes", names)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert "another order of the classes would give" in wrong.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".txt"] == ["model.onnx"]


REFUSED = {
    "no linear layer": ({"features": "nothing"}, "has no tensor 'nothing'"),
    "no vector": ({"features": "/body/body.0/Conv_output_0"}, "one vector"),
    "another size": ({"input_size": 32}, "--size 32x32 does not fit"),
    "another layout": ({"layout": "nhwc"}, "--layout nchw does"),
    "other classes": ({"classes": ["blue", "green"]}, "holds red, which the classes are not"),
    "more classes": ({"classes": [*CLASSES, "white"]}, "there are 4 classes"),
    "two numbers": ({"mean": [0.5, 0.5]}, "it must be three numbers"),
    "no spread": ({"std": 0.0}, "three positive numbers"),
    "a range": ({"value_range": "-1..1"}, "it must be 0..1 or 0..255"),
    "an accuracy": ({"expect_accuracy": 95}, "expect_accuracy is 95"),
    "a score": ({"score": "best"}, "score is 'best'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    logits: Path, few: Path, tmp_path: Path, case: str
) -> None:
    given, said = REFUSED[case]
    target = tmp_path / "folder" / "model.onnx"
    with pytest.raises(iso.InputError) as refused:
        iso.wrap(logits, target, images=few, **{**STATED, **given})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(logits: Path, few: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    other.write_bytes(b"no protobuf of any kind")
    with pytest.raises(iso.InputError, match="not an ONNX model"):
        iso.wrap(other, tmp_path / "model.onnx", images=few)
    target = tmp_path / "model.onnx"
    iso.wrap(logits, target, images=few, **STATED)
    with pytest.raises(iso.InputError, match="an Isoserve model already"):
        iso.wrap(target, tmp_path / "again.onnx", images=few)

    def end_in_sigmoid(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["each"]))
        model.graph.output[0].name = "each"

    def take_numbers(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64

    for change, said in ((end_in_sigmoid, "--features|sigmoid"), (take_numbers, "takes int64")):
        changed = variant(logits, tmp_path / "changed.onnx", change)
        with pytest.raises(iso.InputError, match=said):
            iso.wrap(changed, tmp_path / "none.onnx", images=few, **STATED)
