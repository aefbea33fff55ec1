"""What a classifier made elsewhere expects of pixels, as its owner states it.

Channels are put in the network's order, the pixels brought to ``value_range``, then ``mean`` is
subtracted and the result divided by ``std``: both in units of that range, in that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from isoserve.models.card import INPUT_NAME, InputSpec
from isoserve.models.errors import InputError

ValueRange = Literal["0..1", "0..255"]
Layout = Literal["nchw", "nhwc"]
Channels = tuple[float, float, float]

NONE: tuple[Channels, Channels] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CAFFE: tuple[Channels, Channels] = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Preprocessing:
    """uint8 RGB pixels [N, H, W, 3] -> what the network takes; see the module."""

    mean: Channels = NONE[0]
    std: Channels = NONE[1]
    bgr: bool = False
    value_range: ValueRange = "0..1"
    layout: Layout = "nchw"

    def of_bytes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and std in units of 0..255; float32 [3] each."""
        unit = 255.0 if self.value_range == "0..1" else 1.0
        mean, std = (np.array(each) * unit for each in (self.mean, self.std))
        return mean.astype(np.float32), std.astype(np.float32)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32, [N, 3, H, W] or [N, H, W, 3] by the layout."""
        mean, std = self.of_bytes()
        ordered = pixels[..., ::-1] if self.bgr else pixels
        found: NDArray[np.float32] = (ordered.astype(np.float32) - mean) / std
        return found.transpose(0, 3, 1, 2) if self.layout == "nchw" else found

    def graph(self, spec: InputSpec, output: str, like: onnx.ModelProto) -> onnx.ModelProto:
        """The same as a graph of the versions of ``like``, whose input's type it gives."""
        mean, std = self.of_bytes()
        constants = [numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(std, "std")]
        kind = like.graph.input[0].type.tensor_type.elem_type
        nodes = [helper.make_node("Cast", [INPUT_NAME], ["bytes"], to=TensorProto.FLOAT)]
        last = "bytes"
        if self.bgr:
            order = np.array([2, 1, 0], dtype=np.int64)
            constants.append(numpy_helper.from_array(order, "channel_order"))
            nodes.append(helper.make_node("Gather", [last, "channel_order"], ["bgr"], axis=3))
            last = "bgr"
        nodes.append(helper.make_node("Sub", [last, "mean"], ["centred"]))
        nodes.append(helper.make_node("Div", ["centred", "std"], ["normalized"]))
        last = "normalized"
        if self.layout == "nchw":
            nodes.append(helper.make_node("Transpose", [last], ["planes"], perm=[0, 3, 1, 2]))
            last = "planes"
        nodes.append(helper.make_node("Cast", [last], [output], to=kind))
        shape: list[str | int | None] = ["N", spec.height, spec.width, 3]
        graph = helper.make_graph(
            nodes,
            "preprocessing",
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(output, kind, None)],
            constants,
        )
        return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)

    def alternatives(self) -> Iterator[Preprocessing]:
        """Others that a network of this kind may have been trained with, the nearest first."""
        turned = replace(self, mean=self.mean[::-1], std=self.std[::-1])
        readings = [(self.value_range, self.mean, self.std), ("0..1", self.mean, self.std)]
        readings += [("0..255", self.mean, self.std), (self.value_range, turned.mean, turned.std)]
        known: list[tuple[ValueRange, tuple[Channels, Channels]]] = [
            ("0..1", NONE),
            ("0..255", NONE),
            ("0..1", IMAGENET),
            ("0..1", HALVES),
            ("0..255", CAFFE),
        ]
        seen = {self._key()}
        for value_range, mean, std in [*readings, *((each, *pair) for each, pair in known)]:
            for bgr in (self.bgr, not self.bgr):
                # The named constants are told in the order of the colours, not the network's.
                backwards = bgr and (mean, std) in (IMAGENET, CAFFE) and mean != self.mean
                found = replace(
                    self,
                    mean=mean[::-1] if backwards else mean,
                    std=std[::-1] if backwards else std,
                    bgr=bgr,
                    value_range=value_range,
                )
                if found._key() not in seen:
                    seen.add(found._key())
                    yield found

    def options(self, stated: Preprocessing) -> str:
        """How this differs from what was stated, as options."""
        words = []
        if self.bgr != stated.bgr:
            words.append("--bgr" if self.bgr else "no --bgr")
        if self.value_range != stated.value_range:
            words.append(f"--range {self.value_range}")
        if self.mean != stated.mean:
            words.append(f"--mean {_joined(self.mean)}")
        if self.std != stated.std:
            words.append(f"--std {_joined(self.std)}")
        return " ".join(words)

    def _key(self) -> tuple[object, ...]:
        mean, std = self.of_bytes()
        return (mean.tobytes(), std.tobytes(), self.bgr)


def checked_preprocessing(
    mean: Sequence[float] | float,
    std: Sequence[float] | float,
    *,
    bgr: bool,
    value_range: str,
    layout: str,
) -> Preprocessing:
    """The preprocessing of these values; one number stands for all three channels.

    Raises:
        InputError: a value that is none.
    """
    for name, value, choices in (
        ("range", value_range, get_args(ValueRange)),
        ("layout", layout, get_args(Layout)),
    ):
        if value not in choices:
            raise InputError(f"{name} is {value!r}; it must be {' or '.join(choices)}")
    return Preprocessing(
        _channels("mean", mean),
        _channels("std", std, positive=True),
        bgr,
        "0..1" if value_range == "0..1" else "0..255",
        "nchw" if layout == "nchw" else "nhwc",
    )


def _channels(name: str, value: Sequence[float] | float, *, positive: bool = False) -> Channels:
    values = [value] * 3 if isinstance(value, (int, float)) else list(value)
    if len(values) == 1:
        values *= 3
    numbers = np.array(values, dtype=np.float64)
    if (
        numbers.shape != (3,)
        or not np.isfinite(numbers).all()
        or (positive and (numbers <= 0).any())
    ):
        kind = "positive numbers" if positive else "numbers"
        raise InputError(f"{name} is {_joined(values)}; it must be three {kind}, one per channel")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _joined(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
