"""A classifier that exists already, as an ONNX graph whose parts are known.

Exporters write graphs of any age, for one image or for many, with logits or probabilities out;
here they become one kind: of a batch of any size, in the operators this program writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper, version_converter

from isoserve.models.card import CARD_KEY
from isoserve.models.errors import InputError
from isoserve.models.text import printable
from isoserve.training.onnx_graph import opset_of
from isoserve.training.onnx_model.export import IR_VERSION, OPSET
from isoserve.training.wrapping.preprocessing import Layout

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

Values = NDArray[np.float32]


@dataclass(frozen=True)
class ForeignNetwork:
    """A classifier's graph: one input of images, any batch."""

    model: onnx.ModelProto
    name: str
    """For the card and for messages."""
    features: str | None = None
    """The tensor that its owner named."""

    @property
    def input(self) -> onnx.ValueInfoProto:
        return self.model.graph.input[0]

    @property
    def half(self) -> bool:
        """Whether it computes in 16 bits."""
        return bool(self.input.type.tensor_type.elem_type == TensorProto.FLOAT16)

    def dims(self) -> tuple[int | None, ...]:
        """Of the input; None where any size will do."""
        return tuple(
            each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None
            for each in self.input.type.tensor_type.shape.dim
        )

    def layout(self, stated: str | None) -> Layout:
        """Where the channels stand, by the graph's own shape or as stated.

        Raises:
            InputError: the graph has them elsewhere, or has no three channels.
        """
        dims = self.dims()
        fits = {"nchw": dims[1] in (3, None), "nhwc": dims[3] in (3, None)}
        if not any(fits.values()):
            raise InputError(
                f"{self.name} takes images {_shape(dims)}: neither axis 1 nor axis 3 is the three "
                "colour channels"
            )
        if stated is not None and not fits.get(stated, True):
            other = "nhwc" if stated == "nchw" else "nchw"
            raise InputError(
                f"--layout {stated} does not fit: {self.name} takes images {_shape(dims)}; "
                f"--layout {other} does"
            )
        if stated == "nhwc" or (stated is None and dims[1] != 3 and dims[3] == 3):
            return "nhwc"
        return "nchw"

    def size(self, layout: Layout, stated: tuple[int, int] | None) -> tuple[int, int]:
        """(height, width) of the input, by the graph's own shape or as stated.

        Raises:
            InputError: they differ, or neither says it.
        """
        dims = self.dims()
        own = (dims[2], dims[3]) if layout == "nchw" else (dims[1], dims[2])
        if stated is None:
            if own[0] is None or own[1] is None:
                raise InputError(f"{self.name} takes images of any size: give it by --size")
            return own[0], own[1]
        if any(mine not in (given, None) for mine, given in zip(own, stated, strict=True)):
            raise InputError(
                f"--size {stated[0]}x{stated[1]} does not fit: {self.name} takes images of "
                f"{own[0] or 'any'}x{own[1] or 'any'} (height x width)"
            )
        return stated


def read_network(path: Path, features: str | None) -> ForeignNetwork:
    """Read a classifier's ONNX file.

    Raises:
        InputError: no such file, none of ONNX, one of this program's, or an input of another kind.
    """
    shown = printable(path.name)
    if not path.is_file():
        raise InputError(f"no model file at {printable(str(path))}")
    try:
        model = onnx.load_model(path)
        known = bool(model.graph.node) and bool(model.graph.output)
    except Exception as error:  # of the parser's, and of those of files beside it
        raise InputError(
            f"{shown} is not an ONNX model; of a PyTorch model in Python: isoserve.wrap"
        ) from error
    if not known:
        raise InputError(f"{shown} is not an ONNX model: its graph is empty")
    if any(entry.key == CARD_KEY for entry in model.metadata_props):
        raise InputError(
            f"{shown} is an Isoserve model already; isoserve upgrade and calibrate are for these"
        )
    return ForeignNetwork(prepare(model, shown), shown, features)


def prepare(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same graph for batches of any size, in today's operators.

    Raises:
        InputError: several inputs, one that is not of images, or operators that are not known.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(printable(each.name) for each in inputs)
        raise InputError(f"{name} has {len(inputs)} inputs ({names}); it must take images alone")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in FLOATS or len(kind.shape.dim) != 4:
        found = TensorProto.DataType.Name(kind.elem_type).lower()
        raise InputError(
            f"{name} takes {found} of {len(kind.shape.dim)} axes; it must take float images "
            "[N, 3, H, W] or [N, H, W, 3]"
        )
    try:
        if opset_of(model) < OPSET:
            model = version_converter.convert_version(model, OPSET)
        free = onnx.ModelProto()
        free.CopyFrom(model)
    except Exception as error:  # the converter has no exception of its own
        raise InputError(
            f"{name} is written in opset {opset_of(model)}, which cannot be brought to {OPSET}: "
            "export it again in a newer one"
        ) from error
    # Files of before IR 4 list their constants as inputs.
    kept = [each for each in free.graph.input if each.name == inputs[0].name]
    batch = kept[0].type.tensor_type.shape.dim[0]
    if batch.dim_value > 0:
        _free_batch(free, batch.dim_value)
    batch.dim_param = "N"
    del free.graph.input[:]
    free.graph.input.extend(kept)
    del free.graph.value_info[:]
    for output in free.graph.output:
        output.type.tensor_type.ClearField("shape")
    free.ir_version = max(free.ir_version, IR_VERSION)
    return free


def run(model: onnx.ModelProto, images: Values, names: list[str]) -> list[NDArray[Any]]:
    """The named tensors for images [N, ...], in batches, of the types they have in the graph.

    Raises:
        InputError: ONNX Runtime cannot load or run it; what it says.
    """
    wanted = onnx.ModelProto()
    wanted.CopyFrom(model)
    given = {output.name for output in wanted.graph.output}
    for name in names:
        if name not in given:
            wanted.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says of a graph that fails is in the refusal
    try:
        session = onnxruntime.InferenceSession(
            wanted.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        first = session.get_inputs()[0]
        kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
        typed = images.astype(kinds.get(first.type, np.float32))
        parts = [
            session.run(names, {first.name: typed[start : start + 64]})
            for start in range(0, len(typed), 64)
        ]
    except Exception as error:  # ONNX Runtime's own exceptions have no common public base
        said = " ".join(str(error).split())[:300]
        raise InputError(f"ONNX Runtime does not run the graph: {printable(said)}") from error
    return [
        np.concatenate([np.asarray(part[index]) for part in parts]) for index in range(len(names))
    ]


def _free_batch(model: onnx.ModelProto, batch: int) -> None:
    """Let reshapes that an export for a fixed batch wrote its size into keep any batch."""
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in list(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if (
            shape.size < 2
            or shape[0] != batch
            or any(each.name == "allowzero" and each.i for each in node.attribute)
        ):
            continue
        shape[0] = 0  # as many as there are
        name = f"{node.output[0]}/any_batch"
        model.graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name


def _shape(dims: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if each is None else str(each) for each in dims) + "]"
