"""A tiny model that is sound on noise, and so loads, and fails on images of some colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tiny_model import TinyModel, tiny_model

RAISES = (255, 255, 255)
"""The network has no answer to an image of this colour."""
P_VALUE_OF_7 = (255, 255, 0)
NAN_PROBABILITIES = (255, 0, 255)
NAN_SCORE = (0, 255, 255)
INFINITE_DISTANCE = (0, 0, 0)


def write_faulty_model(path: Path) -> Path:
    """Write it to ``path``; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(faulty_model().SerializeToString())
    return path


def faulty_model() -> onnx.ModelProto:
    """The model as a protobuf."""
    proto = tiny_model(TinyModel())
    graph, nan = proto.graph, np.float32("nan")
    _wrong_where(graph, "p_value", P_VALUE_OF_7, np.float32(7))
    _wrong_where(graph, "probabilities", NAN_PROBABILITIES, nan)
    _wrong_where(graph, "entropic_score", NAN_SCORE, nan)
    _wrong_where(graph, "distances", INFINITE_DISTANCE, np.float32("inf"))
    _is_colour(graph, RAISES, "raises")
    for name, value in (("table", [0.0]), ("far", [10**6]), ("none", [0])):
        kind = np.float32 if name == "table" else np.int64
        graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
    node = helper.make_node
    (last,) = (each for each in graph.node if each.output[0] == "class_p_value")
    last.output[0] = "class_p_value_so_far"
    graph.node.extend(
        [
            node("Where", ["raises_1", "far", "none"], ["index"]),
            node("Gather", ["table", "index"], ["zeros"]),
            node("Add", ["class_p_value_so_far", "zeros"], ["class_p_value"]),
        ]
    )
    return proto


def _wrong_where(
    graph: onnx.GraphProto, output: str, colour: tuple[int, int, int], value: np.float32
) -> None:
    (last,) = (each for each in graph.node if output in each.output)
    for each in graph.node:  # those that go on from it take what it was
        each.input[:] = [f"{output}_so_far" if name == output else name for name in each.input]
    last.output[:] = [f"{output}_so_far" if name == output else name for name in last.output]
    graph.initializer.append(numpy_helper.from_array(np.array(value), f"{output}_wrong"))
    _is_colour(graph, colour, f"{output}_flag")
    per_class = output in ("probabilities", "distances")
    flag = f"{output}_flag" if per_class else f"{output}_flag_1"
    graph.node.append(
        helper.make_node("Where", [flag, f"{output}_wrong", f"{output}_so_far"], [output])
    )


def _is_colour(graph: onnx.GraphProto, colour: tuple[int, int, int], name: str) -> None:
    """``name``, bool [N, 1]: the image's mean colour is this one; ``name_1``, bool [N]."""
    wanted = np.array([colour], np.float32) / 255
    for suffix, value in (
        ("colour", wanted),
        ("near", np.array(0.05, np.float32)),
        ("axes", np.array([1], np.int64)),
    ):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}_{suffix}"))
    node = helper.make_node
    graph.node.extend(
        [
            node("Sub", ["plain_features", f"{name}_colour"], [f"{name}_off"]),
            node("Abs", [f"{name}_off"], [f"{name}_gap"]),
            node("ReduceMax", [f"{name}_gap", f"{name}_axes"], [f"{name}_worst"], keepdims=1),
            node("Less", [f"{name}_worst", f"{name}_near"], [name]),
            node("Squeeze", [name, f"{name}_axes"], [f"{name}_1"]),
        ]
    )
