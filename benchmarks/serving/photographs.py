"""Photographs of telephones, in every server: answers a second as ratios to plain FastAPI's.

    python -m benchmarks.serving.photographs

Photographs of 1, 12 and 48 megapixels as JPEG, HEIC and PNG, made by code, are posted over eight
connections to Isoserve, with and without ``--engine auto``, and to the other servers that are
installed, all of which decode with Isoserve's own functions, a worker a core. The servers take
turns in every round; those photographs that take longest to decode are posted three times as long.
Only answers below 400 count; those of 429 are counted apart. The processor time of an answer is
that of all the server's processes over as many requests more as there are connections, all of them
waited for; it hardly depends on what else the machine does. Some fifteen minutes as it stands;
``--quick`` takes one round of JPEGs of 12 megapixels. Writes ``serving_photographs.json`` and
``.md`` after each photograph; the entries of those that were not taken, by ``--only`` or because
the run was ended, stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.serving.images import PHOTOGRAPHS, write_photograph
from benchmarks.serving.load import drive
from benchmarks.serving.report import RESULTS, circumstances, save_result
from benchmarks.serving.servers import (
    ISOSERVE,
    ISOSERVE_AUTO,
    PLAIN,
    RIVALS,
    Running,
    all_running,
)

NAME = "serving_photographs"
DEFAULT_MODEL = Path(__file__).parents[2] / "model_repository" / "clothes" / "1" / "model.onnx"
QUICK = "JPEG 12"
SLOW, LONGER = ("JPEG 48", "HEIC 12", "PNG 12"), 3
"""Photographs of which a core decodes one or two a second, and how many times as long they are
posted: eight connections get no second answer in two seconds."""

TAKEN = ("date", "load_average_before", "command")
"""Of a run's circumstances those that its entries keep."""

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
    left_out = given.leave_out.split(",")
    candidates = [
        each
        for each in (ISOSERVE, ISOSERVE_AUTO, *RIVALS)
        if each.available and each.name not in left_out
    ]
    result: dict[str, Any] = {
        **circumstances(),
        "command": _command(given),
        "model": given.model.parent.parent.name or given.model.stem,
        **{key: getattr(given, key) for key in ("rounds", "seconds", "connections")},
    }
    taken = {key: result[key] for key in TAKEN}
    result["photographs"] = entries = taken_before(given.out)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photograph"
        with all_running(candidates, given.model, write_photograph(file)) as servers:
            own = [each for each in servers if each.candidate in (ISOSERVE, ISOSERVE_AUTO)]
            result["engines"] = {each.candidate.name: _engine(each) for each in own}
            for name in chosen:
                image = write_photograph(file, name).read_bytes()
                entries[name] = {"taken": taken, **_photograph(name, image, servers, given)}
                save_result(given.out, NAME, result, markdown(result))
    print(markdown(result))


def _command(given: argparse.Namespace) -> str:
    only = f" --only '{given.only}'" if given.only else ""
    return (
        f"python -m benchmarks.serving.photographs --rounds {given.rounds} "
        f"--seconds {given.seconds}{only}"
    )


def taken_before(folder: Path) -> dict[str, Any]:
    """The photographs of an earlier run, with the circumstances of each."""
    try:
        found: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text())
    except FileNotFoundError:
        return {}
    whole = {key: found[key] for key in TAKEN}
    return {name: {"taken": whole, **entry} for name, entry in found["photographs"].items()}


def _engine(server: Running) -> str:
    """What computes Isoserve's answers, as it says itself."""
    models = httpx.get(f"http://127.0.0.1:{server.port}/v1/models", timeout=30).json()["models"]
    (version,) = (each for each in models[0]["versions"] if each["engine"])
    return f"{version['engine']} in {version['precision']}"


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
        if number == 0 or name not in SLOW:
            for each in turns:
                loads[each.candidate.name] |= _processor(each, image, given.connections)
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
    load = drive(server.port, post, given.connections, seconds).as_dict()
    server.wait_until_idle()
    return load


def _processor(server: Running, image: bytes, requests: int) -> dict[str, float]:
    """The processor time of so many requests at once; not of the load's, whose end cuts some off.

    Those would be paid for and not counted, more of them where many are decoded side by side.
    """
    post = server.candidate.post(image)
    url = f"http://127.0.0.1:{server.port}{post.path}"

    def answered(_: int) -> bool:
        try:
            answer = client.post(url, content=post.bodies[0], headers=post.headers)
        except httpx.TransportError:
            return False
        return answer.status_code < 400

    before = server.processor_seconds()
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(requests) as pool:
        awaited = sum(pool.map(answered, range(requests)))
    return {"awaited": awaited, "processor_seconds": server.processor_seconds() - before}


def _refusal(server: Running, image: bytes) -> str:
    """Why Isoserve does not serve the photograph at all; empty where it does."""
    url = f"http://127.0.0.1:{server.port}{server.candidate.path}"
    answer = httpx.post(url, content=image, timeout=30)
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.json()['detail']}"


def summary(server: str, rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the rounds, the ratio taken within each; errors and processor time of all."""
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
    for count in ("requests", "answered", "refused", "errors"):
        summary[count] = sum(load[count] for load in loads)
    taken = [load for load in loads if load.get("awaited")]
    if taken:
        used = sum(load["processor_seconds"] for load in taken)
        summary["processor_ms"] = 1e3 * used / sum(load["awaited"] for load in taken)
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
        "server decodes with Isoserve's functions; `isoserve, auto` runs with "
        f"`--engine auto`, which took {result['engines'].get(ISOSERVE_AUTO.name, 'no part')}. "
        "Only answers below 400 count; latency is over all answers. Processor time is that of all "
        f"the server's processes over {result['connections']} requests at once in each round, in "
        f"the first only of {', '.join(SLOW)}.",
        "",
        "| photograph | server | ratio | answers/s | processor ms an answer | p50 / p99 ms | 429 "
        "| other errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["photographs"].items():
        title = f"{name} MP, {entry['bytes'] / 1e6:.1f} MB"
        if "refused" in entry:
            lines.append(f"| {title} | | not served: {entry['refused']} | | | | | |")
            continue
        for server, load in entry["servers"].items():
            processor = f"{load['processor_ms']:.1f}" if "processor_ms" in load else "–"
            lines.append(
                f"| {title} | {server} | {_ratio(load)} | {load['per_second']:.1f} | {processor} "
                f"| {load['p50_ms']:.0f} / {load['p99_ms']:.0f} | {load['refused']:.0f} "
                f"| {load['errors']:.0f} |"
            )
    return "\n".join([*lines, *_of_earlier_runs(result)])


def _of_earlier_runs(result: dict[str, Any]) -> list[str]:
    """A line for each earlier run that entries of the table are of."""
    runs: dict[str, list[str]] = {}
    for name, entry in result["photographs"].items():
        if entry["taken"] != {key: result[key] for key in TAKEN}:
            said = "Of {date}, load average {load_average_before} beforehand, `{command}`"
            runs.setdefault(said.format(**entry["taken"]), []).append(name)
    return [line for said, names in runs.items() for line in ("", f"{said}: {', '.join(names)}.")]


def _ratio(load: dict[str, float]) -> str:
    return "{ratio:.2f} ({least:.2f} to {greatest:.2f})".format(**load) if "ratio" in load else "–"


if __name__ == "__main__":
    main()
