"""Weights kept in 16 bits: half the file, the same arithmetic.

Each large weight of the backbone is stored as float16 and cast to float32 where it is read; ONNX
Runtime does so once, when it loads the model. The weights are rounded by that, so that the result
is calibrated anew and its largest differences are stated in the card.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from isoserve.models.card import read_card
from isoserve.models.errors import InputError
from isoserve.training.data import LabelledImages
from isoserve.training.onnx_graph import run_graph
from isoserve.training.onnx_model.export import set_card
from isoserve.training.onnx_model.fit_score import Guarantee, fit_score

SMALLEST = 256
"""Values from which on a weight is halved; of the many smaller ones nothing is gained."""

OPERATORS = ("Conv", "Gemm", "MatMul")

_COMPARED = ("probabilities", "entropic_score", "p_value")


def with_half_weights(model: onnx.ModelProto, held_out: LabelledImages) -> onnx.ModelProto:
    """An exported model with 16-bit weights, calibrated on the held-out images again.

    Raises:
        InputError: a weight is too large for float16.
    """
    card = read_card({entry.key: entry.value for entry in model.metadata_props})
    halved = halve(model)
    alpha = card.calibration.alpha
    guarantee = Guarantee(alpha, card.calibration.delta)
    fitted = fit_score(halved, None, held_out, guarantee, card)
    before = run_graph(model, held_out.pixels)
    after = run_graph(fitted.model, held_out.pixels)
    differences = {name: float(np.abs(after[name] - before[name]).max()) for name in _COMPARED}
    same = (after["p_value"] <= alpha) == (before["p_value"] <= alpha)
    recipe = card.recipe | {
        "stored_weights": "float16",
        "against_float32": {
            "n": len(held_out),
            "largest_difference": differences,
            "same_class": float(
                np.mean(after["probabilities"].argmax(1) == before["probabilities"].argmax(1))
            ),
            "same_verdict": float(np.mean(same)),
        },
    }
    set_card(fitted.model, fitted.added_to(card).model_copy(update={"recipe": recipe}))
    return fitted.model


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, its large weights stored as float16 and cast where they are read."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    read = {name for node in graph.node if node.op_type in OPERATORS for name in node.input}
    casts = []
    for initializer in graph.initializer:
        values: NDArray[np.float32] = numpy_helper.to_array(initializer)
        if initializer.name not in read or values.dtype != np.float32 or values.size < SMALLEST:
            continue
        name = initializer.name
        if float(np.abs(values).max()) > float(np.finfo(np.float16).max):
            raise InputError(f"the weight {name} is too large for 16 bits; export without --half")
        short = f"{name}.float16"
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), short))
        casts.append(
            onnx.helper.make_node(
                "Cast", [short], [name], name=f"{name}.cast", to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *graph.node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return found


def widen(model: onnx.ModelProto, names: Container[str]) -> None:
    """Store the halved weights among ``names`` as float32 again, in place, without their casts."""
    graph = model.graph
    halved = {value.name: value for value in graph.initializer}
    casts = [
        node
        for node in graph.node
        if node.op_type == "Cast" and node.output[0] in names and node.input[0] in halved
    ]
    for cast in casts:
        values = numpy_helper.to_array(halved[cast.input[0]]).astype(np.float32)
        halved[cast.input[0]].CopyFrom(numpy_helper.from_array(values, cast.output[0]))
        graph.node.remove(cast)
