"""Convolutional networks of a chosen size with untrained weights, in the exported file's contract.

They cost what a trained network of their size costs; what they say of an image means nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.card import (
    CARD_KEY,
    INPUT_NAME,
    OUTPUT_NAMES,
    Calibration,
    DataSummary,
    InputSpec,
    ModelCard,
)

SIDE = 32
CLASSES = 10
CALIBRATION_SCORES = 5_000
WIDTHS = {"15-MFLOP": 16, "176-MFLOP": 56}
"""Name -> channels after the first convolution; the names are measured by ``megaflops``."""


def megaflops(width: int) -> float:
    """Two a multiply-add, of the convolutions."""
    multiply_adds = 0
    for channels_in, channels_out, side, _ in _layers(width):
        multiply_adds += 9 * channels_in * channels_out * side**2
    return 2e-6 * multiply_adds


def write_network(path: Path, width: int, seed: int = 0) -> Path:
    """Write the network to ``path``, folders included."""
    rng = np.random.default_rng(seed)
    node = helper.make_node
    constants: dict[str, NDArray] = {
        "full": np.array(255.0, dtype=np.float32),
        "axis_1": np.array([1], dtype=np.int64),
        "axis_2": np.array([2], dtype=np.int64),
        "axes_image": np.array([2, 3], dtype=np.int64),
        "prototypes": rng.normal(0, 1, (1, CLASSES, 4 * width)).astype(np.float32),
        "scale": np.array(10.0, dtype=np.float32),
        "calibration": np.sort(-rng.uniform(0, 2.3, (1, CALIBRATION_SCORES))).astype(np.float32),
        "one": np.array(1.0, dtype=np.float32),
        "n_plus_one": np.array(CALIBRATION_SCORES + 1.0, dtype=np.float32),
    }
    nodes = [
        node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        node("Div", ["pixels", "full"], ["unit"]),
        node("Transpose", ["unit"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    last = "x0"
    for number, (channels_in, channels_out, _, stride) in enumerate(_layers(width), 1):
        weights = rng.normal(0, (2 / (9 * channels_in)) ** 0.5, (channels_out, channels_in, 3, 3))
        constants[f"w{number}"] = weights.astype(np.float32)
        constants[f"b{number}"] = np.zeros(channels_out, dtype=np.float32)
        nodes += [
            node(
                "Conv",
                [last, f"w{number}", f"b{number}"],
                [f"c{number}"],
                strides=[stride, stride],
                pads=[1, 1, 1, 1],
            ),
            node("Relu", [f"c{number}"], [f"x{number}"]),
        ]
        last = f"x{number}"
    nodes += [
        node("ReduceMean", [last, "axes_image"], ["features"], keepdims=0),
        node("Unsqueeze", ["features", "axis_1"], ["features_row"]),
        node("Sub", ["features_row", "prototypes"], ["offsets"]),
        node("ReduceL2", ["offsets", "axis_2"], ["distances"], keepdims=0),
        node("Neg", ["distances"], ["score_logits"]),
        node("Mul", ["score_logits", "scale"], ["cold_logits"]),
        node("Softmax", ["cold_logits"], ["probabilities"], axis=1),
        node("Softmax", ["score_logits"], ["share"], axis=1),
        node("LogSoftmax", ["score_logits"], ["log_share"], axis=1),
        node("Mul", ["share", "log_share"], ["terms"]),
        node("ReduceSum", ["terms", "axis_1"], ["entropic_score"], keepdims=0),
        node("Unsqueeze", ["entropic_score", "axis_1"], ["score_column"]),
        node("LessOrEqual", ["calibration", "score_column"], ["below"]),
        node("Cast", ["below"], ["below_number"], to=TensorProto.FLOAT),
        node("ReduceSum", ["below_number", "axis_1"], ["count"], keepdims=0),
        node("Add", ["count", "one"], ["rank"]),
        node("Div", ["rank", "n_plus_one"], ["p_value"]),
        node("Identity", ["p_value"], ["class_p_value"]),
    ]
    shapes = {"probabilities": ["N", CLASSES], "distances": ["N", CLASSES]}
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, ["N"]))
            for name in OUTPUT_NAMES
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    parameters = sum(value.size for name, value in constants.items() if name[0] in "wb")
    helper.set_model_props(proto, {CARD_KEY: _card(parameters, seed).model_dump_json()})
    onnx.checker.check_model(proto)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_bytes(proto.SerializeToString())
    return half.replace(path)


def _layers(width: int) -> list[tuple[int, int, int, int]]:
    """Channels in, channels out, side of the output, stride."""
    return [
        (3, width, 32, 1),
        (width, 2 * width, 16, 2),
        (2 * width, 2 * width, 16, 1),
        (2 * width, 4 * width, 8, 2),
        (4 * width, 4 * width, 8, 1),
    ]


def _card(parameters: int, seed: int) -> ModelCard:
    return ModelCard(
        name="benchmark",
        classes=[f"class {index}" for index in range(CLASSES)],
        input=InputSpec(height=SIDE, width=SIDE),
        network="benchmark",
        parameters=parameters,
        loss="isomax2",
        data=DataSummary(
            name="none", digest="0" * 64, training_images=1, calibration_images=CALIBRATION_SCORES
        ),
        seed=seed,
        recipe={},
        versions={"onnx": onnx.__version__},
        calibration=Calibration(
            n=CALIBRATION_SCORES,
            class_counts=[CALIBRATION_SCORES // CLASSES] * CLASSES,
            threshold=-2.2,
            guaranteed_alpha=0.045,
            score_quantiles=np.linspace(-2.3, 0, 101).tolist(),
            temperature=1.0,
        ),
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )
