"""LitServe: a worker process a core, batches of up to 32 with its shortest wait.

It passes on a JSON document or a form, not a body of bytes, so the image comes in base64. It reads
the annotations as they stand, so they are not postponed here.
"""

import base64
import os
from typing import Any

import litserve
from fastapi import Request

from benchmarks.serving.rivals.pipeline import Pipeline


class Inference(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self._pipeline = Pipeline()

    def decode_request(self, request: Request) -> Any:
        return self._pipeline.decode(base64.b64decode(request["images"][0]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[dict[str, Any]]:
        return self._pipeline.answers(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Inference(max_batch_size=32, batch_timeout=0.001)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["CORES"])).run(
        port=int(os.environ["PORT"]), log_level="error", generate_client_file=False
    )
