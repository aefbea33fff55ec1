"""BentoML: a worker process a core, its adaptive batching up to 32; images in base64."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import Any

import bentoml

from benchmarks.serving.rivals.pipeline import Pipeline

CORES = int(os.environ["CORES"])


@bentoml.service(workers=CORES, traffic={"timeout": 30})
class Inference:
    def __init__(self) -> None:
        self._pipeline = Pipeline()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    def predict(self, images: list[str]) -> list[dict[str, Any]]:
        pixels = [self._pipeline.decode(base64.b64decode(image)) for image in images]
        return self._pipeline.answers(pixels)


if __name__ == "__main__":
    service = "benchmarks.serving.rivals.bentoml_batched:Inference"
    subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", service, "--port", os.environ["PORT"]],
        check=True,
    )
