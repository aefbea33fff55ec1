"""What is asked for: where a network runs, by which engine and in which precision.

Imports nothing, so that settings are read before the engines are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Device = Literal["cpu", "cuda", "tensorrt"]
EngineName = Literal["onnxruntime", "openvino"]
EngineChoice = Literal["onnxruntime", "openvino", "auto"]
Precision = Literal["float32", "bfloat16", "int8"]
PrecisionChoice = Literal["auto", "float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class Execution:
    """As the operator says it, or as a trial of the file has found."""

    device: Device = "cpu"
    engine: EngineChoice = "onnxruntime"
    precision: PrecisionChoice = "auto"
    disagreement: float | None = None
    """How far this engine and precision were found to differ from the reference on the very file:
    they are not compared again then."""
    exact: int = 0
    """Up to which of its bottlenecks a network in bfloat16 was found to need float32."""
    images_a_run: int | None = None
    """As many images one run of the network was found to take of the very file at once: they are
    not tried again then."""


DEFAULT_EXECUTION = Execution()
