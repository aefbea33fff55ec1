"""Ten minutes at 0.8 of the capacity, one request in five hostile: does anything grow?

    python -m benchmarks.serving.soak --seconds 600

Measures the capacity for the mix in a closed loop of 64 and offers 0.8 of it in an open loop;
memory (resident, proportional) and open descriptors are noted all along. Growth is that of the
last fifth's median over the second fifth's: the first is the warm-up. Writes
``serving_soak.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.images import everyday, hostile, write_image
from benchmarks.serving.load import Post, drive
from benchmarks.serving.networks import WIDTHS, write_network
from benchmarks.serving.open_loop import offer
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, Running, running

SAMPLE_SECONDS = 5.0
BOUND = 0.03
"""Growth of memory after the warm-up, as a share."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--model", type=Path, help="a model.onnx; else an untrained network")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        name = next(iter(WIDTHS))
        model = given.model or write_network(Path(folder) / f"{name}.onnx", WIDTHS[name])
        with running(ISOSERVE, model, image) as server:
            result = _soak(server, ISOSERVE.post(*_mix()), given.seconds)
    result = {**circumstances(), "network": model.stem, "seconds": given.seconds, **result}
    write_result(given.out, "serving_soak", result, _markdown(result))


def _mix() -> list[bytes]:
    """Every hostile file once, and four times as many others."""
    harm = hostile()
    return [*harm, *islice(cycle(everyday()), 4 * len(harm))]


def _soak(server: Running, post: Post, seconds: float) -> dict[str, Any]:
    drive(server.port, post, 8, 2)
    closed = drive(server.port, post, 64, 8)
    capacity = closed.requests / 8
    samples: list[tuple[float, float, int]] = []
    over = threading.Event()

    def sample() -> None:
        began = time.monotonic()
        while not over.wait(SAMPLE_SECONDS):
            samples.append((time.monotonic() - began, server.resident_mb(), server.descriptors()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        outcome = offer(server.port, post, 0.8 * capacity, seconds)
    finally:
        over.set()
        sampler.join()
    time.sleep(2 * SAMPLE_SECONDS)  # for the server to see the generator's connections closed
    fifth = len(samples) // 5
    before, after = samples[fifth : 2 * fifth], samples[-fifth:]
    memory = [median(each[1] for each in part) for part in (before, after)]
    return {
        "capacity_per_second": capacity,
        "offered": outcome.offered,
        "statuses": {str(status): count for status, count in sorted(outcome.statuses.items())},
        "lost": outcome.lost,
        "p50_ms": outcome.quantile_ms(200, 0.5),
        "p99_ms": outcome.quantile_ms(200, 0.99),
        "memory_mb": memory,
        "memory_growth": memory[1] / memory[0] - 1,
        "descriptors": [round(median(each[2] for each in part)) for part in (before, after)],
        "descriptors_at_rest": server.descriptors(),
        "samples": [[round(at, 1), round(mb, 2), count] for at, mb, count in samples],
    }


def _markdown(result: dict[str, Any]) -> str:
    statuses = ", ".join(f"{count} × {status}" for status, count in result["statuses"].items())
    before, after = result["memory_mb"]
    held = result["descriptors"]
    return "\n".join(
        [
            "# Soak",
            "",
            f"`python -m benchmarks.serving.soak --seconds {result['seconds']:g}`: "
            f"{result['network']}, 0.8 of {result['capacity_per_second']:.0f} requests/s in an "
            "open loop; images of every format from 32 to 1,024 pixels a side, one in five "
            "damaged, false or a decompression bomb.",
            "",
            f"- {result['offered']} requests: {statuses}, {result['lost']} without an answer. "
            f"p50 {result['p50_ms']:.1f} ms and p99 {result['p99_ms']:.1f} ms of the 200s.",
            f"- Memory in the second fifth {before:.1f} MB, in the last {after:.1f} MB: "
            f"{100 * result['memory_growth']:+.2f} % (bound {100 * BOUND:g} %).",
            f"- Open descriptors in the second fifth {held[0]}, in the last {held[1]}, when the "
            f"load is gone {result['descriptors_at_rest']}.",
        ]
    )


if __name__ == "__main__":
    main()
