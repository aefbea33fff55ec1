"""Mosec: a worker process a core, batches of up to 32 without a batching delay."""

from __future__ import annotations

import os
from typing import Any

from mosec import Server, Worker
from mosec.errors import ValidationError

from benchmarks.serving.rivals.pipeline import Pipeline


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._pipeline = Pipeline()

    def deserialize(self, data: bytes) -> Any:
        try:
            return self._pipeline.decode(bytes(data))  # it gives a bytearray
        except Exception as error:
            raise ValidationError("not an image") from error

    def forward(self, data: list[Any]) -> list[dict[str, Any]]:
        return self._pipeline.answers(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Inference, num=int(os.environ["CORES"]), max_batch_size=32, max_wait_time=1
    )
    server.run()
