"""From a server's start to its first answer, and the memory it takes.

    python -m benchmarks.serving.start

The servers that are installed take turns, each started anew in every round and ended after a load
of two seconds over eight connections. Isoserve takes part with and without ``--engine auto``, and
with a worker a core. Two to three minutes. Writes ``serving_start.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import (
    ISOSERVE,
    ISOSERVE_AUTO,
    ISOSERVE_WORKERS,
    RIVALS,
    Candidate,
    running,
)

NAME = "serving_start"
LOAD_SECONDS = 2
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository" / "cifar10" / "1" / "model.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--leave-out", default="BentoML", help="rivals, with commas between them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    result: dict[str, Any] = {
        **circumstances(),
        "command": f"python -m benchmarks.serving.start --rounds {given.rounds}",
        "model": given.model.parent.parent.name or given.model.stem,
        "rounds": given.rounds,
    }
    left_out = given.leave_out.split(",")
    candidates = [
        each
        for each in (ISOSERVE, ISOSERVE_AUTO, ISOSERVE_WORKERS, *RIVALS)
        if each.available and each.name not in left_out
    ]
    starts: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        for _ in range(given.rounds):
            for candidate in [*candidates]:
                try:
                    found = _start(candidate, given.model, image)
                except RuntimeError as error:
                    print(f"left out: {error}", flush=True)
                    candidates.remove(candidate)
                    continue
                starts.setdefault(candidate.name, []).append(found)
                print(candidate.name, json.dumps(found), flush=True)
    result["servers"] = {name: summary(found) for name, found in starts.items()}
    write_result(given.out, NAME, result, markdown(result))


def _start(candidate: Candidate, model: Path, image: Path) -> dict[str, float]:
    with running(candidate, model, image) as server:
        first = {
            "seconds": server.seconds_to_first_answer,
            "processor_seconds": server.processor_seconds(),
            "memory_mb": server.resident_mb(),
        }
        drive(server.port, candidate.post(image.read_bytes()), 8, LOAD_SECONDS)
        return {**first, "memory_under_load_mb": server.resident_mb()}


def summary(starts: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds, and the shortest and longest start."""
    seconds = [each["seconds"] for each in starts]
    medians = {key: median(each[key] for each in starts) for key in starts[0]}
    return {**medians, "least_seconds": min(seconds), "most_seconds": max(seconds)}


def markdown(result: dict[str, Any]) -> str:
    """The page's text."""
    lines = [
        "# Start and memory",
        "",
        f"`{result['command']}`: from the command to the first answered image, model "
        f"{result['model']}; memory of all processes, what they share counted once, at that moment "
        f"and after {LOAD_SECONDS} s over 8 connections. `isoserve, auto` runs with "
        f"`--engine auto`. Medians of {result['rounds']} rounds.",
        "",
        "| server | first answer, s | processor, s | memory, MB | after a load, MB |",
        "|---|---|---|---|---|",
    ]
    for server, found in result["servers"].items():
        lines.append(
            f"| {server} | {found['seconds']:.2f} ({found['least_seconds']:.2f} to "
            f"{found['most_seconds']:.2f}) | {found['processor_seconds']:.1f} "
            f"| {found['memory_mb']:.0f} | {found['memory_under_load_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
