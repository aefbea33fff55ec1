"""The exported file's contract put together with onnx.helper alone: no torch, no training.

For networks that are made up: those of known size that benchmarks time, and the tests' tiny one.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from isoserve.models.card import CARD_KEY, INPUT_NAME, SCHEMA_1_OUTPUTS, ModelCard

Constants = dict[str, NDArray]


def ood_nodes(
    prototypes: NDArray, scale: float, calibration_scores: NDArray, constants: Constants
) -> list[NodeProto]:
    """Nodes from ``features``, float32 [N, D], to every output but ``class_p_value``.

    ``cold_logits`` [N, C] and ``below`` (1.0 where a calibration score is at most the image's,
    [N, n]) may be used by further nodes, and so may the constants that are added.

    Args:
        prototypes: [C, D].
        calibration_scores: [n].
    """
    constants |= {
        "axis_1": np.array([1], dtype=np.int64),
        "axis_2": np.array([2], dtype=np.int64),
        "prototypes": prototypes.astype(np.float32)[None],
        "scale": np.array(scale, dtype=np.float32),
        "calibration_scores": calibration_scores.astype(np.float32)[None],
        "one": np.array(1.0, dtype=np.float32),
        "n_plus_one": np.array(len(calibration_scores) + 1, dtype=np.float32),
    }
    node = helper.make_node
    return [
        node("Unsqueeze", ["features", "axis_1"], ["features_row"]),
        node("Sub", ["features_row", "prototypes"], ["offsets"]),
        node("ReduceL2", ["offsets", "axis_2"], ["distances"], keepdims=0),
        node("Neg", ["distances"], ["score_logits"]),
        node("Mul", ["score_logits", "scale"], ["cold_logits"]),
        node("Softmax", ["cold_logits"], ["probabilities"], axis=1),
        node("Softmax", ["score_logits"], ["score_share"], axis=1),
        node("LogSoftmax", ["score_logits"], ["score_log"], axis=1),
        node("Mul", ["score_share", "score_log"], ["terms"]),
        node("ReduceSum", ["terms", "axis_1"], ["entropic_score"], keepdims=0),
        node("Unsqueeze", ["entropic_score", "axis_1"], ["score_column"]),
        node("LessOrEqual", ["calibration_scores", "score_column"], ["below_bool"]),
        node("Cast", ["below_bool"], ["below"], to=TensorProto.FLOAT),
        node("ReduceSum", ["below", "axis_1"], ["count"], keepdims=0),
        node("Add", ["count", "one"], ["rank"]),
        node("Div", ["rank", "n_plus_one"], ["p_value"]),
    ]


def contract_model(
    nodes: list[NodeProto], constants: Constants, card: ModelCard
) -> onnx.ModelProto:
    """The checked model of these nodes, with the card and the contract's input and outputs."""
    spec, classes = card.input, len(card.classes)
    shapes = {"probabilities": ["N", classes], "distances": ["N", classes]}
    pixels = ["N", spec.height, spec.width, 3]
    graph = helper.make_graph(
        nodes,
        card.name,
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, pixels)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, ["N"]))
            for name in SCHEMA_1_OUTPUTS
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(proto, {CARD_KEY: card.model_dump_json()})
    onnx.checker.check_model(proto)
    return proto
