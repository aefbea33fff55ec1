"""Which files are refused, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_model import TinyModel, reference, tiny_model

from isoserve.models.card import CARD_KEY, SCHEMA_1_OUTPUTS
from isoserve.service.inference.model import ModelRefused, load_model, read_model_bytes

Break = Callable[[onnx.ModelProto], None]


def refused(proto: onnx.ModelProto) -> ModelRefused:
    with pytest.raises(ModelRefused) as caught:
        load_model("m", 1, proto.SerializeToString(), 1, 4)
    return caught.value


def test_a_loaded_model_gives_the_outputs_of_the_formulas() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), dtype=np.uint8)
    model = load_model("m", 3, tiny_model().SerializeToString(), 2, 4)
    expected = reference(images)
    for slot in (0, 1):
        outputs = model.run(slot, images)
        for name in SCHEMA_1_OUTPUTS:
            assert getattr(outputs, name) == pytest.approx(expected[name], abs=1e-5)


def rename_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "pixels_in"
    proto.graph.node[0].input[0] = "pixels_in"


def float_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def other_size(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9


def fixed_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def missing_output(proto: onnx.ModelProto) -> None:
    del proto.graph.output[4]


def more_classes_than_named(proto: onnx.ModelProto) -> None:
    card = proto.metadata_props[0].value
    proto.metadata_props[0].value = card.replace('"blue"]', '"blue","pink"]').replace(
        '"class_counts":[', '"class_counts":[0,'
    )


@pytest.mark.parametrize(
    ("broken_by", "words"),
    [
        (rename_input, "the inputs are ['pixels_in'], expected ['images']"),
        (float_input, "'images' is a tensor(float), expected tensor(uint8)"),
        (other_size, "'images' has shape"),
        (fixed_batch, "fixed batch size 2"),
        (missing_output, "the outputs are"),
        (more_classes_than_named, "shape ['N', 3], expected ['N', 4]"),
    ],
)
def test_another_interface_than_the_contract_is_refused(broken_by: Break, words: str) -> None:
    proto = tiny_model()
    broken_by(proto)
    error = refused(proto)
    assert error.reason == "contract"
    assert words in str(error)


def test_a_file_without_a_valid_card_is_refused() -> None:
    proto = tiny_model()
    proto.metadata_props[0].value = '{"schema_version": 99}'
    assert refused(proto).reason == "card"
    del proto.metadata_props[:]
    error = refused(proto)
    assert error.reason == "card"
    assert CARD_KEY in str(error)


def test_garbage_and_half_a_model_are_refused() -> None:
    whole = tiny_model().SerializeToString()
    for data in (b"", b"garbage" * 100, whole[: len(whole) // 2]):
        with pytest.raises(ModelRefused) as caught:
            load_model("m", 1, data, 1, 4)
        assert caught.value.reason in ("not_onnx", "card", "contract")


def test_weights_beside_the_file_are_refused_even_where_they_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = tiny_model()
    path = tmp_path / "model.onnx"
    onnx.save_model(
        proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert (tmp_path / "weights.bin").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelRefused) as caught:
        load_model("m", 1, path.read_bytes(), 1, 4)
    assert caught.value.reason == "not_onnx"


def test_a_network_that_answers_nonsense_is_refused_by_the_warm_up() -> None:
    proto = tiny_model(TinyModel())
    for value in proto.graph.initializer:
        if value.name == "n_plus_one":
            value.CopyFrom(numpy_helper.from_array(np.array(0.5, np.float32), "n_plus_one"))
    error = refused(proto)
    assert error.reason == "warm_up"
    assert "p_value" in str(error)
    proto = tiny_model(TinyModel())
    for value in proto.graph.initializer:
        if value.name == "prototypes":
            nan = np.full((1, 3, 3), np.nan, np.float32)
            value.CopyFrom(numpy_helper.from_array(nan, "prototypes"))
    assert "not finite" in str(refused(proto))


def test_a_network_that_fails_beyond_one_image_is_refused() -> None:
    proto = tiny_model(TinyModel())
    node = helper.make_node("Reshape", ["plain_features", "one_row"], ["features"])
    (old,) = (n for n in proto.graph.node if n.output[0] == "features")
    old.CopyFrom(node)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "one_row"))
    assert refused(proto).reason in ("warm_up", "contract")


def test_a_file_over_the_limit_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ModelRefused, match="cannot be read"):
        read_model_bytes(path, 10)
    path.write_bytes(b"x" * 11)
    with pytest.raises(ModelRefused, match="11 bytes, more than max_model_bytes"):
        read_model_bytes(path, 10)


def test_a_pipe_in_a_model_files_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ModelRefused, match="not a regular file"):
        read_model_bytes(tmp_path / "model.onnx", 10)
