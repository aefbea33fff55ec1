"""The model as Triton's Python backend loads it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)  # the backend does not look there

import numpy as np  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402

from benchmarks.serving.rivals.pipeline import Pipeline  # noqa: E402


class TritonPythonModel:
    """Tensors pass by DLPack: the backend's own way through NumPy knows NumPy 1 only."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        self._pipeline = Pipeline()

    def execute(self, requests: list[Any]) -> list[Any]:
        images = [triton.get_input_tensor_by_name(each, "IMAGE") for each in requests]
        pixels = [self._pipeline.decode(np.from_dlpack(image).tobytes()) for image in images]
        return [_response(answer) for answer in self._pipeline.answers(pixels)]


def _response(answer: dict[str, Any]) -> Any:
    document = np.array([list(json.dumps(answer).encode())], dtype=np.uint8)
    return triton.InferenceResponse([triton.Tensor.from_dlpack("VERDICT", document)])
