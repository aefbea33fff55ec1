"""Where a classifier's features are, and the linear layer that makes logits of them.

The layer is read by trying it: what follows the features is run on the zero vector and on each
unit vector, which gives bias and weights of whatever nodes an exporter wrote it in; and it is
checked that what follows is linear, on the images' own features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from isoserve.models.errors import InputError
from isoserve.models.heads import SoftMaxHead
from isoserve.models.text import printable
from isoserve.training.onnx_graph import up_to
from isoserve.training.wrapping.network import ForeignNetwork, Values, run

LINEAR = ("Gemm", "MatMul", "Conv")
BETWEEN = ("Add", "Sub", "Mul", "Div", "Identity", "Cast", "Flatten", "Reshape", "Squeeze")
"""May stand between the linear layer and the logits, or behind a softmax."""

SOFTMAXES = ("Softmax", "LogSoftmax")
MOST_FEATURES = 16_384
NAME_THEM = "name the input of the last linear layer by --features"

_NONLINEAR = 1e-3
"""Largest difference to a linear layer, as a share of the largest logit; 0.02 in 16 bits."""


@dataclass(frozen=True)
class LastLayer:
    """What the rest of the wrapping needs to know of a network's end."""

    features: str
    """The tensor [N, D, ...] that the linear layer takes."""
    logits: str
    """The tensor [N, C, ...] of logits, or of probabilities where these do not come of a softmax
    that can be taken off."""
    probabilities: bool

    def logits_of(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """[N, C]; of probabilities their logarithms, centred, as softmax does not tell."""
        flat: NDArray[np.float64] = values.reshape(len(values), -1).astype(np.float64)
        if not self.probabilities:
            return flat
        logs: NDArray[np.float64] = np.log(np.maximum(flat, 1e-30))
        centred: NDArray[np.float64] = logs - logs.mean(axis=1, keepdims=True)
        return centred


def find_last_layer(network: ForeignNetwork, images: Values, classes: int) -> LastLayer:
    """The features and the logits of a graph.

    Args:
        images: two or more, preprocessed.

    Raises:
        InputError: no output of ``classes`` columns, no softmax classifier, no linear layer
            found, or no tensor of the name given.
    """
    nodes = list(network.model.graph.node)
    makers = {output: node for node in nodes for output in node.output}
    output = _output(network, images, classes)
    logits = _before_softmax(output, makers)
    features = network.features
    if features is None:
        features = _linear_input(logits, makers, network)
    elif features not in makers:
        raise InputError(f"{network.name} has no tensor {printable(features)!r}: {NAME_THEM}")
    (values,) = run(network.model, images, [logits])
    flat = values.reshape(len(values), -1)
    sums = flat.sum(axis=1)
    share = bool((flat >= 0).all() and (flat <= 1.001).all())
    probabilities = logits == output and share and bool(np.abs(sums - 1).max() < 1e-2)
    if share and not probabilities and _op(output, makers) == "Sigmoid":
        raise InputError(
            f"{network.name} ends in a sigmoid: its classes are judged each by itself, and only a "
            "softmax over them can be wrapped"
        )
    return LastLayer(features, logits, probabilities)


def read_head(network: ForeignNetwork, layer: LastLayer, images: Values) -> SoftMaxHead:
    """The linear layer, by what it does to unit vectors.

    Raises:
        InputError: what follows the features is no linear layer.
    """
    features, values = run(network.model, images, [layer.features, layer.logits])
    if features.ndim < 2 or not np.isfinite(features).all() or not np.isfinite(values).all():
        raise InputError(f"{network.name} gives features or logits that are not finite numbers")
    size = int(np.prod(features.shape[1:]))
    if size > MOST_FEATURES or max(features.shape[1:]) != size:
        raise InputError(
            f"{printable(layer.features)!r} is {list(features.shape[1:])} of an image; features "
            f"are one vector of at most {MOST_FEATURES} numbers: {NAME_THEM}"
        )
    after = up_to(network.model, layer.logits, layer.features)
    if len(after.graph.input) != 1:
        raise _not_linear(network, layer)
    kind = onnx.helper.np_dtype_to_tensor_dtype(features.dtype)
    after.graph.input[0].type.tensor_type.elem_type = kind
    tell = _chunked(after, layer, features.shape[1:])
    bias = tell(np.zeros((1, size), np.float32))[0]
    weight = tell(np.eye(size, dtype=np.float32)) - bias
    exact = features.reshape(len(features), -1).astype(np.float64)
    found, told = exact @ weight + bias, layer.logits_of(values)
    bar = (0.02 if network.half else _NONLINEAR) * max(float(np.abs(told).max()), 1.0)
    if not np.abs(found - told).max() <= bar:
        raise _not_linear(network, layer)
    head = SoftMaxHead(size, len(bias))
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(weight.T.copy()))
        head.linear.bias.copy_(torch.from_numpy(bias.copy()))
    return head.eval()


Probe = Callable[[Values], NDArray[np.float64]]


def _chunked(after: onnx.ModelProto, layer: LastLayer, shape: tuple[int, ...]) -> Probe:
    def tell(vectors: Values) -> NDArray[np.float64]:
        (values,) = run(after, vectors.reshape(-1, *shape), [layer.logits])
        return layer.logits_of(values)

    return tell


def _output(network: ForeignNetwork, images: Values, classes: int) -> str:
    names = [output.name for output in network.model.graph.output]
    found = run(network.model, images, names)
    shapes = {name: list(values.shape) for name, values in zip(names, found, strict=True)}
    fitting = [
        name
        for name, shape in shapes.items()
        if shape[:1] == [len(images)] and np.prod(shape[1:]) == classes
    ]
    if not fitting:
        said = "; ".join(f"{printable(name)} {shape[1:]}" for name, shape in shapes.items())
        raise InputError(
            f"{network.name} gives {said} of an image, and there are {classes} classes: give the "
            "name of each output, one a line, by --classes, and an export for any batch"
        )
    return fitting[0]


Makers = dict[str, onnx.NodeProto]


def _op(tensor: str, makers: Makers) -> str:
    return str(makers[tensor].op_type) if tensor in makers else ""


def _before_softmax(output: str, makers: Makers) -> str:
    """What the softmax at the end takes; the output itself where there is none."""
    tensor = output
    while _op(tensor, makers) in ("Identity", "Cast", "Flatten", "Reshape", "Squeeze"):
        tensor = makers[tensor].input[0]
    return str(makers[tensor].input[0]) if _op(tensor, makers) in SOFTMAXES else output


def _linear_input(logits: str, makers: Makers, network: ForeignNetwork) -> str:
    varying = _varying(network)
    tensor = logits
    while True:
        taken = (
            [each for each in makers[tensor].input if each in varying] if tensor in makers else []
        )
        if len(taken) == 1 and _op(tensor, makers) in LINEAR:
            return taken[0]
        if len(taken) != 1 or _op(tensor, makers) not in BETWEEN:
            raise InputError(
                f"{network.name} does not end in a linear layer that can be found (its logits come "
                f"of {_op(tensor, makers) or 'its input'}): {NAME_THEM}"
            )
        tensor = taken[0]


def _varying(network: ForeignNetwork) -> set[str]:
    """The tensors that depend on the images."""
    found = {network.input.name}
    for node in network.model.graph.node:  # which are in the order they run in
        # The shape of a batch varies with it, and is no value of an image's.
        if node.op_type != "Shape" and found.intersection(node.input):
            found.update(node.output)
    return found


def _not_linear(network: ForeignNetwork, layer: LastLayer) -> InputError:
    return InputError(
        f"what follows {printable(layer.features)!r} in {network.name} is not one linear layer: "
        f"{NAME_THEM}"
    )
