"""Latency of each server at the same load, from clients that do not wait.

    python -m benchmarks.serving.latency

Each server that is installed takes Poisson arrivals at 50 and 80 % of what plain FastAPI answers a
second in a closed loop of 64, in turns; times are from when a request was due. Isoserve takes part
with and without ``--engine auto``. Two minutes at most. Writes ``serving_latency.json`` and
``.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive
from benchmarks.serving.open_loop import Outcome, offer
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import (
    ISOSERVE,
    ISOSERVE_AUTO,
    PLAIN,
    RIVALS,
    Running,
    all_running,
)

NAME = "serving_latency"
SHARES = (0.5, 0.8)
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository" / "cifar10" / "1" / "model.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--leave-out", default="BentoML", help="rivals, with commas between them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    result: dict[str, Any] = {
        **circumstances(),
        "command": f"python -m benchmarks.serving.latency --seconds {given.seconds:g}",
        "model": given.model.parent.parent.name or given.model.stem,
    }
    left_out = given.leave_out.split(",")
    candidates = [
        each
        for each in (ISOSERVE, ISOSERVE_AUTO, *RIVALS)
        if each.available and each.name not in left_out
    ]
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        with all_running(candidates, given.model, image) as servers:
            result |= _measure(servers, image.read_bytes(), given.seconds)
    write_result(given.out, NAME, result, markdown(result))


def _measure(servers: list[Running], image: bytes, seconds: float) -> dict[str, Any]:
    capacities = {}
    for server in servers:
        post = server.candidate.post(image)
        drive(server.port, post, 8, 1)
        capacities[server.candidate.name] = drive(server.port, post, 64, 2).per_second
    reference = capacities.get(PLAIN, capacities[ISOSERVE.name])
    found: dict[str, Any] = {name: {} for name in capacities}
    for share in SHARES:
        for server in servers:
            post = server.candidate.post(image)
            load = summary(offer(server.port, post, share * reference, seconds))
            found[server.candidate.name][str(share)] = load
            print(f"{server.candidate.name} at {share}: {load}", flush=True)
    return {"reference_per_second": reference, "capacities": capacities, "servers": found}


def summary(outcome: Outcome) -> dict[str, float]:
    """Latency of the answers with 200, in milliseconds, and how many there were of the others."""
    answered, refused = outcome.statuses[200], outcome.statuses[429]
    return {
        "offered": outcome.offered,
        **{f"p{round(100 * each)}_ms": outcome.quantile_ms(200, each) for each in (0.5, 0.9, 0.99)},
        "refused": refused,
        "other": outcome.offered - answered - refused,
        "generator_late_p99_ms": outcome.late_ms(0.99),
    }


def markdown(result: dict[str, Any]) -> str:
    """The page's text."""
    lines = [
        "# Latency at one load",
        "",
        f"`{result['command']}`: model {result['model']}; Poisson arrivals in an open loop at a "
        "share of what plain FastAPI answers a second in a closed loop of 64 "
        f"({result['reference_per_second']:.0f}), the generator on the same cores; times from when "
        "a request was due, of answers with 200; the generator itself was late by so much at its "
        "p99. `isoserve, auto` runs with `--engine auto`.",
        "",
        "| load | server | p50 ms | p90 ms | p99 ms | 429 | other errors | generator late by, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share in map(str, SHARES):
        for server, loads in result["servers"].items():
            load = loads[share]
            lines.append(
                f"| {100 * float(share):.0f} % | {server} | {load['p50_ms']:.1f} "
                f"| {load['p90_ms']:.1f} | {load['p99_ms']:.1f} | {load['refused']:.0f} "
                f"| {load['other']:.0f} | {load['generator_late_p99_ms']:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
