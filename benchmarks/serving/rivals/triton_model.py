"""The model as Triton's Python backend loads it."""

from __future__ import annotations

import os
import sys
from typing import Any

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)  # the backend does not look there

import numpy as np  # noqa: E402
import triton_python_backend_utils as triton  # noqa: E402

from benchmarks.serving.rivals.pipeline import Pipeline  # noqa: E402


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        self._pipeline = Pipeline()

    def execute(self, requests: list[Any]) -> list[Any]:
        images = [triton.get_input_tensor_by_name(each, "IMAGE") for each in requests]
        pixels = [self._pipeline.decode(image.as_numpy().item()) for image in images]
        return [_response(answer) for answer in self._pipeline.answers(pixels)]


def _response(answer: dict[str, Any]) -> Any:
    values = {
        "LABEL": np.array([[answer["label"]]], dtype=np.object_),
        "PROBABILITY": np.array([[answer["probability"]]], dtype=np.float32),
        "P_VALUE": np.array([[answer["p_value"]]], dtype=np.float32),
        "IS_OOD": np.array([[answer["is_ood"]]], dtype=np.bool_),
    }
    return triton.InferenceResponse([triton.Tensor(name, value) for name, value in values.items()])
