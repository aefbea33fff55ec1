"""Where a network runs, by which engine and in which precision: as asked for, and as found.

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
class ComputeForm:
    """What computes a model: an engine, and the precision of its convolutions and products."""

    engine: EngineName
    precision: Precision
    disagreement: float = 0.0
    """How far p-values differ from the reference's; 0 for the reference."""
    exact: int = 0
    """Up to which of its bottlenecks a network in bfloat16 is computed in float32."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What loading a file and running its network has found."""

    form: ComputeForm
    images_a_run: int
    """As many images one run of the network takes at once."""


@dataclass(frozen=True, slots=True)
class Execution:
    """As the operator says it, or as a trial of the file has found."""

    device: Device = "cpu"
    engine: EngineChoice = "onnxruntime"
    precision: PrecisionChoice = "auto"
    trial: Trial | None = None
    """Of the very file, where there was one: what it has found is not tried again."""

    @classmethod
    def of_trial(cls, device: Device, trial: Trial) -> Execution:
        """What the trial has found, on this device."""
        return cls(device, trial.form.engine, trial.form.precision, trial)


DEFAULT_EXECUTION = Execution()
