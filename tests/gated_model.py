"""A model whose runs wait for the test, and a batcher to run it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.batching.admission import QueueLimits
from isoserve.service.batching.image_cost import LARGE_SECONDS, ImageCost
from isoserve.service.batching.job import AwaitedJob
from isoserve.service.batching.micro_batcher import MicroBatcher
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.model import Model
from isoserve.service.inference.outputs import Outputs, Pixels
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.versions import ServingModel
from isoserve.service.settings import Settings

LARGE = ImageCost(LARGE_SECONDS, 1000)
IMAGES = ImageLimits(10_000, 1_000)
RED = np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)


class GatedModel:
    """Stands in for a model in memory: each run waits until the test opens the gate."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.card = model.card
        self.gate = threading.Event()
        self.batches: list[int] = []
        self.entered = threading.Semaphore(0)
        self.threads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, slot: int, images: Pixels) -> Outputs:
        self.threads.append(threading.current_thread().name)
        self.batches.append(len(images))
        self.entered.release()
        assert self.gate.wait(20)
        return self._model.run(slot, images)


def load_gated(folder: Path) -> ServingModel:
    """A tiny model in memory behind a gate."""
    write_tiny_model(folder / "m" / "1" / "model.onnx", TinyModel())
    repository = Repository(Settings(repository=folder, max_batch=8), 2, Metrics())
    repository.scan()
    served = repository.resolve("m", None)
    return ServingModel(GatedModel(served.model), served.series)  # type: ignore[arg-type]


def gated(served: ServingModel) -> GatedModel:
    assert isinstance(served.model, GatedModel)
    return served.model


def job(served: ServingModel, source: bytes | Pixels = RED) -> AwaitedJob:
    def build_response(outputs: Outputs, row: int, pixels: Pixels) -> int:  # noqa: ARG001
        return int(outputs.probabilities[row].argmax())

    return AwaitedJob(served, source, build_response)


def run(scenario: Callable[[MicroBatcher], Awaitable[Any]], slots: int = 1, **limits: Any) -> Any:
    """Run the scenario with a batcher on a fresh event loop."""

    async def main() -> Any:
        chosen = {"images": 100, "seconds": 30.0, "max_batch": 4, **limits}
        batcher = MicroBatcher(slots, QueueLimits(**chosen), IMAGES, Metrics())
        try:
            return await scenario(batcher)
        finally:
            await asyncio.to_thread(batcher.close)

    return asyncio.run(main())


async def first_batch_is_running(served: ServingModel) -> None:
    assert await asyncio.to_thread(gated(served).entered.acquire, timeout=20)
