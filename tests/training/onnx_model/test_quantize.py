"""``isoserve quantize`` on a network trained for seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import isoserve.training.onnx_model.quantize
from isoserve.cli import cli
from isoserve.models import openvino_engine
from isoserve.models.errors import InputError
from isoserve.service.inference.agreement import probe_images
from isoserve.service.inference.model import load_model
from isoserve.training.data import LabelledImages, load_class_folders
from isoserve.training.hold_out import hold_out
from isoserve.training.onnx_graph import read_model, run_graph
from isoserve.training.onnx_model import quantization_report
from isoserve.training.onnx_model.half_weights import halve
from isoserve.training.onnx_model.quantize import QuantizeOptions, quantize, to_int8
from isoserve.training.out_distributions import load_out_distribution

RANGE_IMAGES = 24
CLOTHES = Path(__file__).parents[3] / "model_repository/clothes/1/model.onnx"
"""An EfficientNet-Lite0, its weights in 16 bits."""


def _isoserve(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def _refused(*words: object) -> str:
    result = _isoserve(*words)
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def float32(run: Path) -> Path:
    return run / "model.onnx"


@pytest.fixture(scope="module")
def int8(float32: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("int8") / "model.onnx"
    result = _isoserve(
        "quantize", float32, colours / "test", "--output", output, "--limit", 50,
        "--range-images", RANGE_IMAGES, "--max-accuracy-loss", 0.1, "--max-auroc-loss", 0.2,
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    engines = ["ONNX Runtime", "OpenVINO"] if openvino_engine.is_installed() else ["ONNX Runtime"]
    speeds = [f"by {engine}, batch {size}:" for engine in engines for size in (1, 32)]
    for words in ("accuracy", "AUROC, gaussian", "AUROC, uniform", *speeds):
        assert words in result.output
    return output


@pytest.fixture(scope="module")
def held_out(float32: Path, colours: Path) -> LabelledImages:
    """The images that the int8 model was calibrated on."""
    images = load_class_folders(colours / "test", read_model(float32)[1].input)
    rest, _ = hold_out(images.labels, RANGE_IMAGES, 0)
    return images.take(rest)


def test_the_card_says_int8_and_what_it_cost(int8: Path, float32: Path) -> None:
    old, new = read_model(float32)[1], read_model(int8)[1]
    assert (old.precision, new.precision) == ("float32", "int8")
    assert (new.name, new.network, new.classes) == (old.name, old.network, old.classes)
    assert new.calibration.n == new.data.calibration_images == 90 - RANGE_IMAGES
    assert new.calibration != old.calibration
    cost = new.recipe["quantisation"]["cost"]
    assert cost["n"] == 90 - RANGE_IMAGES
    assert set(cost["auroc"]) == {"gaussian", "uniform"}


def test_convolutions_are_8_bit_a_scale_a_channel_and_the_head_is_float32(
    int8: Path, float32: Path
) -> None:
    model, _ = read_model(int8)
    initializers = {entry.name: entry for entry in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        dequantize = made_by[node.input[1]]
        weight, scale = (initializers[name] for name in dequantize.input[:2])
        assert weight.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [weight.dims[0]]
    original, _ = read_model(float32)
    head = {
        node.name
        for node in original.graph.node
        if any("'classifier.head'" in entry.value for entry in node.metadata_props)
    }
    kept = [node for node in model.graph.node if node.name in head]
    assert len(kept) == len(head) > 0
    for node in kept:
        for name in node.input:
            assert name not in made_by or made_by[name].op_type != "DequantizeLinear"
    assert initializers["classifier.head.prototypes"].data_type == onnx.TensorProto.FLOAT


def test_weights_that_the_file_holds_in_16_bits_are_8_bit_too_a_scale_a_channel(
    float32: Path, held_out: LabelledImages
) -> None:
    model = to_int8(halve(read_model(float32)[0]), held_out.pixels[:RANGE_IMAGES])
    kept = {entry.name: entry for entry in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions:
        weight, scale = (kept[name] for name in made_by[node.input[1]].input[:2])
        assert weight.data_type == onnx.TensorProto.INT8
        assert list(scale.dims) == [weight.dims[0]]
    assert convolutions


def test_a_network_of_depthwise_convolutions_stays_in_8_bits_and_answers_as_before() -> None:
    """Its bounded ReLUs too, or it would leave 8 bits at each."""
    model, card = read_model(CLOTHES)
    images = probe_images(card.input)
    int8 = to_int8(model, images)
    made_by = {output: node for node in int8.graph.node for output in node.output}
    of_conv = [
        node
        for node in int8.graph.node
        if node.op_type == "Clip" and made_by[node.input[0]].op_type == "Conv"
    ]
    assert not of_conv
    old, new = (run_graph(each, images)["probabilities"] for each in (model, int8))
    assert np.abs(new - old).max(axis=1).mean() < 0.1


@pytest.mark.parametrize(("ratio", "said"), [(0.93, True), (1.2, False)])
def test_it_says_so_where_8_bits_gain_nothing(
    float32: Path,
    colours: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    said: bool,
) -> None:
    speedup = {"ONNX Runtime": {1: 0.9, 32: ratio}, "OpenVINO": {1: 0.8, 32: 0.7}}
    monkeypatch.setattr(quantization_report, "measure_speedup", lambda *_: speedup)
    result = _isoserve(
        "quantize", float32, colours / "test", "--output", tmp_path / "out.onnx", "--limit", 50,
        "--range-images", RANGE_IMAGES, "--max-accuracy-loss", 0.1, "--max-auroc-loss", 0.2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    warning = (
        f"8 bits gain nothing here by ONNX Runtime or OpenVINO: serve the float32 file, {float32}"
    )
    assert (warning in result.stderr) == said
    assert f"by ONNX Runtime, batch 32: {ratio:.2f} times float32's" in result.stdout


def test_its_p_values_rank_among_its_own_scores(int8: Path, held_out: LabelledImages) -> None:
    model, card = read_model(int8)
    outputs = run_graph(model, held_out.pixels)
    scores = outputs["ood_score"]
    n = len(scores)
    expected = [(1 + sum(other <= score for other in scores)) / (n + 1) for score in scores]
    np.testing.assert_allclose(outputs["p_value"], expected, rtol=1e-6)
    assert np.mean(outputs["p_value"] <= card.calibration.alpha) <= card.calibration.alpha


def test_it_answers_nearly_as_the_float32_model(
    int8: Path, float32: Path, held_out: LabelledImages
) -> None:
    old, new = (run_graph(read_model(path)[0], held_out.pixels) for path in (float32, int8))
    predicted = [outputs["probabilities"].argmax(axis=1) for outputs in (old, new)]
    assert np.mean(predicted[0] == predicted[1]) >= 0.9
    spread = np.ptp(old["entropic_score"])
    assert np.median(np.abs(new["entropic_score"] - old["entropic_score"])) < 0.1 * spread
    assert np.any(new["entropic_score"] != old["entropic_score"])


def test_the_server_takes_it(int8: Path) -> None:
    model = load_model("m", 1, int8.read_bytes(), slots=1, max_batch=4)
    assert model.card.precision == "int8"


def test_a_loss_over_the_bound_is_refused(
    float32: Path, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, card = read_model(float32)
    images = load_class_folders(colours / "test", card.input)
    outs = [load_out_distribution("uniform", card.input, colours, 20)]
    options = QuantizeOptions(range_images=RANGE_IMAGES, max_accuracy_loss=0.5, max_auroc_loss=1.0)

    def break_it(graph: onnx.ModelProto, *_: object, **__: object) -> onnx.ModelProto:
        broken = onnx.ModelProto()
        broken.CopyFrom(graph)
        for entry in broken.graph.initializer:
            if entry.name == "classifier.head.prototypes":
                values = onnx.numpy_helper.to_array(entry)
                rolled = np.roll(values, 1, axis=0)
                entry.CopyFrom(onnx.numpy_helper.from_array(rolled, entry.name))
        return broken

    monkeypatch.setattr(isoserve.training.onnx_model.quantize, "to_int8", break_it)
    with pytest.raises(InputError, match="of accuracy .* more than --max-accuracy-loss 0.5"):
        quantize(model, card, images, outs, options)


def test_what_cannot_be_quantised_is_refused(
    int8: Path, float32: Path, colours: Path, tmp_path: Path
) -> None:
    test, output = colours / "test", tmp_path / "out.onnx"
    assert "is int8 already" in _refused("quantize", int8, test, "--output", output)
    assert "is kept" in _refused("quantize", float32, test, "--output", float32)
    assert "90 images are too few: 256" in _refused("quantize", float32, test, "--output", output)
    message = _refused("quantize", float32, test, "--output", output, "--range-images", 32)
    assert "at least 91 are needed" in message
    message = _refused("quantize", float32, test, "--output", output, "--max-accuracy-loss", 2)
    assert "--max-accuracy-loss" in message
    model, _ = read_model(float32)
    for node in model.graph.node:
        del node.metadata_props[:]
    stripped = tmp_path / "stripped.onnx"
    onnx.save(model, stripped)
    flags = ("--output", output, "--range-images", RANGE_IMAGES)
    assert "not exported by this program" in _refused("quantize", stripped, test, *flags)
    assert not output.exists()
