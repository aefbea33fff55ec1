"""Convolutional networks of a chosen size with untrained weights, in the exported file's contract.

They cost what a trained network of their size costs; what they say of an image means nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.contract_graph import Constants, contract_model, ood_nodes
from isoserve.models.card import INPUT_NAME, Calibration, DataSummary, InputSpec, ModelCard

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
    prototypes = rng.normal(0, 1, (CLASSES, 4 * width))
    calibration = np.sort(-rng.uniform(0, 2.3, CALIBRATION_SCORES))
    constants: Constants = {
        "full": np.array(255.0, dtype=np.float32),
        "axes_image": np.array([2, 3], dtype=np.int64),
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
        *ood_nodes(prototypes, 10.0, calibration, constants),
        node("Identity", ["p_value"], ["class_p_value"]),
    ]
    parameters = sum(value.size for name, value in constants.items() if name[0] in "wb")
    proto = contract_model(nodes, constants, _card(parameters, seed))
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
