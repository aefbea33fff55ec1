"""Read an exported model and run it over many images, as the service would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from isoserve.models.card import INPUT_NAME, CardError, ModelCard, read_card
from isoserve.models.errors import InputError
from isoserve.models.openvino_engine import ComputePrecision, Session, open_sessions

Outputs = dict[str, NDArray[np.float32]]


def read_model(path: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Read a ``model.onnx`` and its card.

    Raises:
        InputError: no such file, not an ONNX model, or one without a valid card.
    """
    if not path.is_file():
        raise InputError(f"no model file at {path}")
    try:
        model = onnx.load_model(path, load_external_data=False)
        card = read_card({entry.key: entry.value for entry in model.metadata_props})
    except CardError as error:
        raise InputError(f"{path}: {error}") from error
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX model: {error}") from error
    given = {node.name for node in (*model.graph.input, *model.graph.output)}
    missing = [name for name in (INPUT_NAME, *card.output_names) if name not in given]
    if missing:
        raise InputError(f"{path} has a card, but its graph lacks {', '.join(missing)}")
    return model, card


@contextmanager
def computed_by_openvino(precision: ComputePrecision) -> Iterator[None]:
    """Graphs that are run in this block are OpenVINO's, as a server's that runs them so."""
    token = _open_session.set(lambda content: open_sessions(content, 1, precision)[0])
    try:
        yield
    finally:
        _open_session.reset(token)


def _onnx_runtime(content: bytes) -> Session:
    return cast(
        "Session", onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    )


_open_session: ContextVar[Callable[[bytes], Session]] = ContextVar(
    "open_session", default=_onnx_runtime
)


def run_graph(
    model: onnx.ModelProto | bytes,
    pixels: NDArray[np.uint8],
    batch_size: int = 64,
    names: Sequence[str] | None = None,
) -> Outputs:
    """Outputs by name for uint8 [N, H, W, 3]; float32, first axis N.

    Args:
        names: the outputs wanted; all if not given.
    """
    content = model if isinstance(model, bytes) else model.SerializeToString()
    if names is None:
        graph = (onnx.load_from_string(model) if isinstance(model, bytes) else model).graph
        names = [output.name for output in graph.output]
    wanted = list(names)
    session = _open_session.get()(content)
    parts = [
        session.run(wanted, {INPUT_NAME: pixels[start : start + batch_size]})
        for start in range(0, len(pixels), batch_size)
    ]
    return {
        name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(wanted)
    }


def deciding_scores(outputs: Outputs) -> NDArray[np.float32]:
    """[N], the score that the p-values are of: in files of schema 1 the entropic one."""
    return outputs["ood_score"] if "ood_score" in outputs else outputs["entropic_score"]


def has_output(model: onnx.ModelProto, name: str) -> bool:
    """Whether the graph gives an output of that name."""
    return any(output.name == name for output in model.graph.output)


def has_initializer(model: onnx.ModelProto, name: str) -> bool:
    """Whether the graph carries a constant of that name."""
    return any(initializer.name == name for initializer in model.graph.initializer)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """The graph's constants by name, those too that are stored in 16 bits and cast to 32."""
    found: dict[str, NDArray[np.generic]] = {
        each.name: numpy_helper.to_array(each) for each in model.graph.initializer
    }
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in found:
            stored = found[node.input[0]]
            if stored.dtype == np.float16:
                found[node.output[0]] = stored.astype(np.float32)
    return found


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy that gives the graph's inner float tensor ``name`` too.

    Raises:
        InputError: the graph has no such tensor.
    """
    if not any(name in node.output for node in model.graph.node):
        raise InputError(f"the model's graph has no {name!r}: it was not exported by this program")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if not has_output(model, name):
        changed.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    return changed


def without_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy whose tensor ``name`` is an inner one."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    kept = [output for output in model.graph.output if output.name != name]
    del changed.graph.output[:]
    changed.graph.output.extend(kept)
    return changed


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the graph is written in."""
    return max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))


def up_to(model: onnx.ModelProto, name: str, start: str | None = None) -> onnx.ModelProto:
    """A copy with only what the float tensor ``name`` needs, and this as its one output.

    Args:
        start: an inner float tensor that becomes the one input; the graph's own inputs stay if
            not given.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    needed, waiting = set(), [name]
    while waiting:
        tensor = waiting.pop()
        if tensor in needed:
            continue
        needed.add(tensor)
        if tensor in made_by and tensor != start:
            waiting += _taken_by(made_by[tensor])
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    made = needed - {start}
    kept = [node for node in model.graph.node if made.intersection(node.output)]
    constants = [each for each in model.graph.initializer if each.name in needed]
    for field, values in (("node", kept), ("initializer", constants)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del getattr(graph, field)[:]
        getattr(graph, field).extend(copies)
    del graph.output[:]
    del graph.value_info[:]
    del found.metadata_props[:]
    graph.output.append(_float_tensor(name))
    if start is not None:
        inputs = [each for each in model.graph.input if each.name in made]
        del graph.input[:]
        graph.input.extend([_float_tensor(start), *inputs])
    return found


def _taken_by(node: onnx.NodeProto) -> list[str]:
    """The tensors that a node takes, those of the graphs inside it too."""
    inner = [
        name
        for attribute in node.attribute
        for graph in (*attribute.graphs, attribute.g)
        for each in graph.node
        for name in _taken_by(each)
    ]
    return [name for name in (*node.input, *inner) if name]


def _float_tensor(name: str) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
