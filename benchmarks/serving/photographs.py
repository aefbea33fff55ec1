"""Photographs of telephones, in every server: answers a second as ratios to plain FastAPI's.

    python -m benchmarks.serving.photographs

Photographs of 1, 12 and 48 megapixels as JPEG, HEIC and PNG, made by code, are posted over eight
connections to Isoserve and to the other servers that are installed, all of which decode with
Isoserve's own functions, a worker a core. The servers take turns in every round; those photographs
that take longest to decode are posted three times as long. Only answers below
400 count; those of 429 are counted apart. Under eight minutes as it stands; ``--quick`` takes one
round of JPEGs of 12 megapixels. Writes ``serving_photographs.json`` and ``.md``; with ``--only``
the other photographs' entries stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.serving.images import PHOTOGRAPHS, write_photograph
from benchmarks.serving.load import drive
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, PLAIN, RIVALS, Candidate, Running, all_running

NAME = "serving_photographs"
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository" / "clothes" / "1" / "model.onnx"
QUICK = "JPEG 12"
SLOW, LONGER = ("JPEG 48", "HEIC 12", "PNG 12"), 3
"""Photographs of which a core decodes one or two a second, and how many times as long they are
posted: eight connections get no second answer in two seconds."""

IDLE_LOOK, MOST_IDLE_WAIT = 0.2, 20.0
"""Seconds between two looks whether a server still works, and that are waited at most."""

LEFT_OUT = ("BentoML",)
"""Not among those that are compared by default."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument(
        "--only", default="", help=f"of {', '.join(PHOTOGRAPHS)}, with commas between them"
    )
    parser.add_argument(
        "--leave-out", default=",".join(LEFT_OUT), help="rivals, with commas between them"
    )
    parser.add_argument("--quick", action="store_true", help=f"one round, {QUICK} only")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.only = 1, given.only or QUICK
    chosen = [name.strip() for name in given.only.split(",")] if given.only else list(PHOTOGRAPHS)
    if unknown := [name for name in chosen if name not in PHOTOGRAPHS]:
        parser.error(f"--only names {unknown[0]!r}; there are {', '.join(PHOTOGRAPHS)}")
    rivals = [each for each in RIVALS if each.available]
    rivals = [each for each in rivals if each.name not in given.leave_out.split(",")]
    result: dict[str, Any] = {
        **circumstances(),
        "command": _command(given),
        "model": given.model.parent.parent.name or given.model.stem,
        **{key: getattr(given, key) for key in ("rounds", "seconds", "connections")},
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photograph"
        images = {name: write_photograph(file, name).read_bytes() for name in chosen}
        measured = _measure(images, rivals, given)
    result["photographs"] = {**_taken_before(given.out), **measured}
    write_result(given.out, NAME, result, markdown(result))


def _command(given: argparse.Namespace) -> str:
    only = f" --only '{given.only}'" if given.only else ""
    return (
        f"python -m benchmarks.serving.photographs --rounds {given.rounds} "
        f"--seconds {given.seconds}{only}"
    )


def _taken_before(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text())
    except FileNotFoundError:
        return {}
    return dict(found["photographs"])


def _measure(
    images: dict[str, bytes], rivals: list[Candidate], given: argparse.Namespace
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        small = write_photograph(Path(folder) / "small")
        with all_running((ISOSERVE, *rivals), given.model, small) as servers:
            return {
                name: _photograph(name, image, servers, given) for name, image in images.items()
            }


def _photograph(
    name: str, image: bytes, servers: list[Running], given: argparse.Namespace
) -> dict[str, Any]:
    seconds = given.seconds * (LONGER if name in SLOW else 1)
    entry: dict[str, Any] = {"bytes": len(image), "seconds": seconds}
    if refusal := _refusal(servers[0], image):
        print(f"{name}: not served: {refusal}", flush=True)
        return {**entry, "refused": refusal}
    rounds = []
    for number in range(given.rounds):
        turns = servers if number % 2 == 0 else servers[::-1]
        loads = {each.candidate.name: _load(each, image, given, seconds) for each in turns}
        rounds.append(loads)
        shown = {server: round(load["per_second"], 1) for server, load in loads.items()}
        print(f"{name} round {number + 1}: {json.dumps(shown)}", flush=True)
    entry["servers"] = {
        each.candidate.name: summary(each.candidate.name, rounds) for each in servers
    }
    return {**entry, "rounds": rounds}


def _load(
    server: Running, image: bytes, given: argparse.Namespace, seconds: int
) -> dict[str, float]:
    post = server.candidate.post(image)
    load = drive(server.port, post, given.connections, seconds, count_refused=True).as_dict()
    _wait_until_idle(server)
    return load


def _wait_until_idle(server: Running) -> None:
    """So that what it still decodes for clients that went is not the next server's burden."""
    for _ in range(round(MOST_IDLE_WAIT / IDLE_LOOK)):
        before = server.processor_seconds()
        time.sleep(IDLE_LOOK)
        if server.processor_seconds() - before < IDLE_LOOK / 4:
            return


def _refusal(server: Running, image: bytes) -> str:
    """Why Isoserve does not serve the photograph at all; empty where it does."""
    url = f"http://127.0.0.1:{server.port}{server.candidate.path}"
    answer = httpx.post(url, content=image, timeout=30)
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.json()['detail']}"


def summary(server: str, rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds, the ratio taken within each; errors of all."""
    loads = [each[server] for each in rounds]
    summary: dict[str, float] = {
        key: median(load[key] for load in loads) for key in ("per_second", "p50_ms", "p99_ms")
    }
    ratios = [
        each[server]["per_second"] / each[PLAIN]["per_second"]
        for each in rounds
        if each.get(PLAIN, {}).get("per_second")
    ]
    if ratios:
        summary |= {"ratio": median(ratios), "least": min(ratios), "greatest": max(ratios)}
    summary["requests"] = sum(load["requests"] for load in loads)
    summary["refused"] = sum(load["refused"] for load in loads)
    summary["errors"] = sum(load["errors"] for load in loads) - summary["refused"]
    return summary


def markdown(result: dict[str, Any]) -> str:
    """The page's text."""
    lines = [
        "# Photographs",
        "",
        f"`{result['command']}`: answers a second over plain FastAPI's in the same round; a closed "
        f"loop of `wrk` over {result['connections']} connections on the same cores; model "
        f"{result['model']}; {result['rounds']} rounds of {result['seconds']} s, "
        f"{LONGER * result['seconds']} of {', '.join(SLOW)}, medians. Every "
        "server decodes with Isoserve's functions. Only answers below 400 count; latency is over "
        "all answers.",
        "",
        "| photograph | server | ratio | answers/s | p50 / p99 ms | 429 | other errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["photographs"].items():
        title = f"{name} MP, {entry['bytes'] / 1e6:.1f} MB"
        if "refused" in entry:
            lines.append(f"| {title} | | not served: {entry['refused']} | | | | |")
            continue
        for server, load in entry["servers"].items():
            ratio = _ratio(load)
            lines.append(
                f"| {title} | {server} | {ratio} | {load['per_second']:.1f} "
                f"| {load['p50_ms']:.0f} / {load['p99_ms']:.0f} | {load['refused']:.0f} "
                f"| {load['errors']:.0f} |"
            )
    return "\n".join(lines)


def _ratio(load: dict[str, float]) -> str:
    return "{ratio:.2f} ({least:.2f} to {greatest:.2f})".format(**load) if "ratio" in load else "–"


if __name__ == "__main__":
    main()
