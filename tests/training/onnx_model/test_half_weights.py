"""The density score's whitening in 16 bits."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from isoserve.training.onnx_graph import has_initializer
from isoserve.training.onnx_model.half_weights import halve

FEATURES, CLASSES = 48, 4


def _constants(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A whitening that enlarges directions by 10 to 1,000, and class means far from zero."""
    random = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(random.normal(size=(FEATURES, FEATURES)))
    whitening = directions * np.logspace(1, 3, FEATURES)
    means = 2 + 0.01 * random.random((CLASSES, FEATURES))
    return whitening, means


def _graph(whitening: np.ndarray, whitened_means: np.ndarray) -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(whitening.astype(np.float32), "whitening"),
        numpy_helper.from_array(whitened_means.astype(np.float32), "class_means"),
    ]
    nodes = [helper.make_node("MatMul", ["features", "whitening"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", FEATURES])
        for name in ("features", "y")
    )
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], constants))


def test_its_constant_stands_in_the_file_once_in_16_bits() -> None:
    whitening, means = _constants()
    model = halve(_graph(whitening, means @ whitening))
    assert not has_initializer(model, "whitening")
    assert model.ByteSize() < 0.65 * _graph(whitening, means @ whitening).ByteSize()
    cast = model.graph.node[0]
    assert (cast.op_type, list(cast.output)) == ("Cast", ["whitening"])
