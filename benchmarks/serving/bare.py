"""The measure of all servers: ONNX Runtime called in a loop, with nothing around it.

    python -m benchmarks.serving.bare MODEL IMAGE --seconds 4

prints one line of JSON: the images a second of batch 1 on every usable core (a thread and a
single-threaded session each, pixels decoded beforehand), the same in batches of 32, which is what
a server that batches could reach at most, and the median milliseconds of decoding the image file
and running it, alone on one core.
"""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from isoserve.models.card import InputSpec
from isoserve.models.cpu_quota import usable_cores
from isoserve.service.inference.image_limits import ImageLimits
from isoserve.service.inference.images import decode
from isoserve.service.inference.model import Model, load_model

LIMITS = ImageLimits()
BATCH = 32


def images_a_second(model: Model, slots: int, seconds: float, batch: int) -> float:
    """Batches of so many in ``slots`` threads for so long."""
    spec = model.card.input
    pixels = np.zeros((batch, spec.height, spec.width, 3), dtype=np.uint8)
    counts = [0] * slots
    stop = perf_counter() + seconds

    def loop(slot: int) -> None:
        while perf_counter() < stop:
            model.run(slot, pixels)
            counts[slot] += batch

    threads = [threading.Thread(target=loop, args=(slot,)) for slot in range(slots)]
    started = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (perf_counter() - started)


def decode_and_run(model: Model, image: bytes, spec: InputSpec, seconds: float) -> float:
    """Median seconds of one image from its bytes to its outputs, one after the other."""
    times = []
    stop = perf_counter() + seconds
    while (started := perf_counter()) < stop:
        model.run(0, decode(image, spec, LIMITS)[None])
        times.append(perf_counter() - started)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    slots = usable_cores()
    model = load_model("bare", 1, given.model.read_bytes(), slots, 1)
    image = given.image.read_bytes()
    lone = decode_and_run(model, image, model.card.input, given.seconds / 4)
    rate = images_a_second(model, slots, given.seconds, 1)
    batched = images_a_second(model, slots, given.seconds, BATCH)
    found = {"images_per_second": rate, "batched_images_per_second": batched}
    print(json.dumps({**found, "decode_and_run_ms": 1e3 * lone}))


if __name__ == "__main__":
    main()
