"""Four times what the server can do: is what it accepts still quick, and is it well afterwards?

    python -m benchmarks.serving.overload --seconds 60

Measures the capacity in a closed loop of 64, then offers 0.8 of it and then four times of it in an
open loop, and asks at once afterwards. Writes ``serving_overload.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive
from benchmarks.serving.networks import WIDTHS, write_network
from benchmarks.serving.open_loop import Outcome, offer
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, running

BOUND = 2.0
"""Accepted p99 at overload over the p99 at 0.8 of the capacity."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--model", type=Path, help="a model.onnx; else an untrained network")
    parser.add_argument("--times", type=float, default=4.0, help="of the capacity")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        name = list(WIDTHS)[-1]
        model = given.model or write_network(Path(folder) / f"{name}.onnx", WIDTHS[name])
        with running(ISOSERVE, model, image) as server:
            post = ISOSERVE.post(image.read_bytes())
            drive(server.port, post, 8, 1)
            capacity = drive(server.port, post, 64, 4).per_second
            usual = offer(server.port, post, 0.8 * capacity, given.seconds)
            over = offer(server.port, post, given.times * capacity, given.seconds)
            with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
                healthy = client.post(post.path, content=post.bodies[0]).status_code == 200
    result = {
        **circumstances(),
        "network": model.stem,
        "seconds": given.seconds,
        "times": given.times,
        "capacity_per_second": capacity,
        "at_0.8": _summary(usual),
        "overload": _summary(over),
        "healthy_at_once_afterwards": healthy,
    }
    result["p99_ratio"] = result["overload"]["p99_ms"] / result["at_0.8"]["p99_ms"]
    result["p99_ratio_after_a_second"] = (
        result["overload"]["p99_ms_after_a_second"] / result["at_0.8"]["p99_ms_after_a_second"]
    )
    write_result(given.out, "serving_overload", result, _markdown(result))


def _summary(outcome: Outcome) -> dict[str, Any]:
    accepted = outcome.statuses[200]
    return {
        "offered": outcome.offered,
        "accepted": accepted,
        "statuses": {str(status): count for status, count in outcome.statuses.items()},
        "lost": outcome.lost,
        "p50_ms": outcome.quantile_ms(200, 0.5),
        "p99_ms": outcome.quantile_ms(200, 0.99),
        "p99_ms_after_a_second": outcome.quantile_ms(200, 0.99, since=1.0),
        "generator_late_p99_ms": outcome.late_ms(0.99),
        "refusal_p99_ms": outcome.quantile_ms(429, 0.99),
    }


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        "# Overload",
        "",
        f"`python -m benchmarks.serving.overload --seconds {result['seconds']:g}`: "
        f"{result['network']}, capacity {result['capacity_per_second']:.0f} images/s (closed loop "
        "of 64); then Poisson arrivals in an open loop, the generator on the same cores, times "
        "from when a request was due.",
        "",
        "| load | offered | accepted | 429 | other errors | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, key in (
        ("0.8 of the capacity", "at_0.8"),
        (f"{result['times']:g} times", "overload"),
    ):
        load = result[key]
        shed = load["statuses"].get("429", 0)
        other = load["offered"] - load["accepted"] - shed
        lines.append(
            f"| {name} | {load['offered']} | {load['accepted']} | {shed} | {other} "
            f"| {load['p50_ms']:.1f} | {load['p99_ms']:.1f} |"
        )
    after = "200" if result["healthy_at_once_afterwards"] else "failed"
    lines += [
        "",
        f"Accepted p99 at overload over that at 0.8: {result['p99_ratio']:.2f} (bound {BOUND:g}). "
        f"A request right afterwards: {after}.",
        "",
        "In the first moments of overload the queue may still grow to the `queue_seconds` of the "
        "settings, and is held short from the first refusal on: without the requests of the first "
        f"second the ratio is {result['p99_ratio_after_a_second']:.2f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
