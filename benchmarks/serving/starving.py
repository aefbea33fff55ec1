"""Does one client's expensive files keep another client's images from their answers?

    python -m benchmarks.serving.starving

One client posts small images, or photographs of a megapixel, at a steady rate: alone, then beside
one that posts over many connections what takes longest to decode for the bytes sent, and posts
again soon after a refusal. In turns, to Isoserve and to plain FastAPI with the same decoder. Under
two minutes; ``--quick`` takes a few seconds. Writes ``serving_starving.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.serving.images import costly_webp, write_image, write_photograph
from benchmarks.serving.load import Load, drive
from benchmarks.serving.open_loop import Outcome, offer
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, PLAIN, RIVALS, Running, all_running

NAME = "serving_starving"
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository" / "clothes" / "1" / "model.onnx"

RATES = {"small image": 40.0, "JPEG 1": 8.0}
"""What the first client posts, and how many a second: a tenth or so of what two cores can do."""

EXPENSIVE = "HEIC 12"
"""Posted in turn with :func:`costly_webp`; both take a core about half a second."""

CONNECTIONS, PAUSE_MS = 16, 50
"""The other client's, and how long it waits before each request, after a 429 too."""

HEAD_START = 1.0
"""Seconds by which the other client begins before the first one, and ends after it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--quick", action="store_true", help=f"one round of 2 s, {ISOSERVE.name}")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.seconds = 1, 2
    result: dict[str, Any] = {
        **circumstances(),
        "command": f"python -m benchmarks.serving.starving --rounds {given.rounds} "
        f"--seconds {given.seconds}",
        "model": given.model.parent.parent.name or given.model.stem,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "connections": CONNECTIONS,
        "pause_ms": PAUSE_MS,
    }
    rivals = [each for each in RIVALS if each.name == PLAIN and not given.quick]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        heavy = [costly_webp(), write_photograph(file, EXPENSIVE).read_bytes()]
        images = {
            "small image": write_image(file).read_bytes(),
            "JPEG 1": write_photograph(file, "JPEG 1").read_bytes(),
        }
        with all_running((ISOSERVE, *rivals), given.model, file) as servers:
            result["servers"] = {
                server.candidate.name: {
                    name: _measure(server, name, image, heavy, given)
                    for name, image in images.items()
                }
                for server in servers
            }
    write_result(given.out, NAME, result, markdown(result))


def _measure(
    server: Running, name: str, image: bytes, heavy: list[bytes], given: argparse.Namespace
) -> dict[str, Any]:
    """The first client's answers in both cases, of all rounds, and what became of the other's."""
    post, greedy = server.candidate.post(image), server.candidate.post(*heavy)
    alone, beside = Outcome(), Outcome()
    loads: list[Load] = []
    drive(server.port, post, 2, 1)
    for _ in range(given.rounds):
        alone.add(offer(server.port, post, RATES[name], given.seconds))
        with ThreadPoolExecutor(1) as other:
            seconds = given.seconds + round(2 * HEAD_START)
            load = other.submit(drive, server.port, greedy, CONNECTIONS, seconds, pause_ms=PAUSE_MS)
            time.sleep(HEAD_START)
            beside.add(offer(server.port, post, RATES[name], given.seconds))
            loads.append(load.result())
        server.wait_until_idle()
    found = {"alone": summary(alone), "beside": summary(beside)}
    others = {
        count: sum(getattr(load, count) for load in loads)
        for count in ("answered", "refused", "errors")
    }
    print(f"{server.candidate.name}, {name}: {json.dumps(found)}", flush=True)
    return {**found, "other_client": others}


def summary(outcome: Outcome) -> dict[str, float]:
    """Latency of the answers with 200, in milliseconds, and how many there were."""
    answered, refused = outcome.statuses[200], outcome.statuses[429]
    return {
        "answered": answered,
        "p50_ms": outcome.quantile_ms(200, 0.5),
        "p99_ms": outcome.quantile_ms(200, 0.99),
        "refused": refused,
        "other": outcome.offered - answered - refused,
    }


def markdown(result: dict[str, Any]) -> str:
    """The page's text."""
    lines = [
        "# A client that takes the machine",
        "",
        f"`{result['command']}`: one client posts at a steady rate (Poisson arrivals: "
        f"{', '.join(f'{name} {rate:g}/s' for name, rate in RATES.items())}), alone and beside "
        f"another that posts in turn a WebP of one colour of 10.6 MP (34 bytes) and {EXPENSIVE} MP "
        f"over {result['connections']} connections, {result['pause_ms']} ms after each answer; "
        f"model {result['model']}; {result['rounds']} rounds of {result['seconds']} s; the "
        "generators run on the same cores. Latency is of answers with 200, from when a request "
        "was due.",
        "",
        "| server | posted | alone, p50 / p99 ms | beside it | times, p50 / p99 | answered | 429 "
        "| other errors | the other client's: answered, 429, errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for server, images in result["servers"].items():
        for name, found in images.items():
            alone, beside = found["alone"], found["beside"]
            cells = [f"{each['p50_ms']:.1f} / {each['p99_ms']:.1f}" for each in (alone, beside)]
            cells.append(" / ".join(_times(alone, beside, key) for key in ("p50_ms", "p99_ms")))
            cells += [
                f"{alone[count]:.0f}, {beside[count]:.0f}"
                for count in ("answered", "refused", "other")
            ]
            cells.append(", ".join(f"{each:.0f}" for each in found["other_client"].values()))
            lines.append(f"| {server} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _times(alone: dict[str, float], beside: dict[str, float], key: str) -> str:
    """A dash where nothing was answered in one of the two cases."""
    answered = alone["answered"] and beside["answered"]
    return f"{beside[key] / alone[key]:.2f}" if answered else "–"


if __name__ == "__main__":
    main()
