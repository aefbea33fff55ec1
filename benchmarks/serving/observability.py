"""What metrics and the log cost: throughput and processor time with them on, against off.

    python -m benchmarks.serving.observability --model model_repository/cifar10/1/model.onnx

Three servers run side by side: as it is by default (metrics), as the container runs it (metrics
and a line of JSON a request, into a file), and with neither (``without_metrics``).
Each round drives every one of them at every number of connections, backwards in every other round,
and the ratios are taken within the round. Writes ``serving_observability.json`` and ``.md``; with
``--more`` the rounds of an earlier run stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median, stdev
from typing import Any

from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive, refused
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, Candidate, Running, running

NAME = "serving_observability"
MOST_LOST = 0.03
"""The share of throughput that may be lost, by this project's own aim."""

CONNECTIONS = (8, 64)
# Whatever the machine does meanwhile, none is answered 429.
FLAGS = (*ISOSERVE.flags, "--queue-seconds", "30")
OFF = Candidate("off", "benchmarks.serving.without_metrics", ISOSERVE.path, FLAGS)
METRICS = Candidate("metrics", ISOSERVE.module, ISOSERVE.path, FLAGS)
ALL = Candidate(
    "metrics and log",
    ISOSERVE.module,
    ISOSERVE.path,
    (*FLAGS, "--access-log", "--log-format", "json"),
)

Round = dict[str, dict[str, dict[str, float]]]
"""Server -> connections -> its load, with ``cpu_us``: processor time an answer, microseconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a model.onnx")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--more", action="store_true", help="add to the rounds there are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rounds = rounds_before(given.out) if given.more else []
    taken = circumstances()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        image = write_image(folder / "image.jpg")
        servers = []
        for candidate in (OFF, METRICS, ALL):
            said = stack.enter_context((folder / candidate.name).open("wb"))
            servers.append(stack.enter_context(running(candidate, given.model, image, stderr=said)))
        for server in servers:
            drive(server.port, server.candidate.post(image.read_bytes()), 64, 1)  # warm
        for number in range(given.rounds):
            order = servers if number % 2 else servers[::-1]
            rounds.append(_round(order, image.read_bytes(), given.seconds))
            print(f"round {len(rounds)}: {json.dumps(rounds[-1])}", flush=True)
    command = f"python -m benchmarks.serving.observability --model {given.model}"
    command += f" --rounds {given.rounds}" + " --more" * given.more
    result = {
        **taken,
        "command": command,
        "seconds": given.seconds,
        "servers": {server.name: summary(rounds, server.name) for server in (METRICS, ALL)},
        "rounds": rounds,
    }
    write_result(given.out, NAME, result, _markdown(result))


def rounds_before(folder: Path) -> list[Round]:
    """The rounds of the result there is; none where there is none."""
    path = folder / f"{NAME}.json"
    return json.loads(path.read_text())["rounds"] if path.exists() else []


def _round(servers: list[Running], image: bytes, seconds: int) -> Round:
    measured: Round = {server.candidate.name: {} for server in servers}
    for connections in CONNECTIONS:
        for server in servers:
            before = server.processor_seconds()
            load = drive(server.port, server.candidate.post(image), connections, seconds)
            used = server.processor_seconds() - before
            measured[server.candidate.name][str(connections)] = {
                **load.as_dict(),
                "cpu_us": 1e6 * used / load.requests,
            }
    return measured


def summary(rounds: list[Round], server: str) -> dict[str, Any]:
    """For each number of connections, how the server compares with the one that is ``off``.

    ``throughput``, ``cpu``: median over the rounds of the ratio to it in the same round; with
    ``_error``, the median's standard error (1.25 times the mean's), and ``_range``.
    """
    found: dict[str, Any] = {}
    for connections in map(str, CONNECTIONS):
        loads = [(each[server][connections], each[OFF.name][connections]) for each in rounds]
        found[connections] = {
            **_ratio("throughput", [on["per_second"] / off["per_second"] for on, off in loads]),
            **_ratio("cpu", [on["cpu_us"] / off["cpu_us"] for on, off in loads]),
            "per_second": median(on["per_second"] for on, _ in loads),
            "off_per_second": median(off["per_second"] for _, off in loads),
            "off_cpu_us": median(off["cpu_us"] for _, off in loads),
            "errors": sum(load["errors"] + refused(load) for pair in loads for load in pair),
        }
    return found


def _ratio(name: str, values: list[float]) -> dict[str, Any]:
    error = 1.25 * stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {
        name: median(values),
        f"{name}_error": error,
        f"{name}_range": [min(values), max(values)],
    }


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        "# What metrics and the log cost",
        "",
        f"`{result['command']}`: throughput of a server with them on over one with nothing counted "
        "or logged, in the same round, a closed loop of `wrk` on the same cores, a 32 x 32 JPEG a "
        f"request; {len(result['rounds'])} rounds of {result['seconds']} s each, in turns. Median "
        "± its standard error, least and greatest behind it. The processor's time an answer, of "
        "the server alone, is the steadier measure of the two.",
        "",
        "| on | c | images/s, off | throughput, on over off | processor time, on over off "
        "| errors |",
        "|---|---|---|---|---|---|",
    ]
    for server, loads in result["servers"].items():
        for connections, load in loads.items():
            lines.append(
                f"| {server} | {connections} | {load['off_per_second']:.0f} "
                f"| {_cell(load, 'throughput')} | {_cell(load, 'cpu')} | {load['errors']} |"
            )
    every = [load for loads in result["servers"].values() for load in loads.values()]
    worst = min(every, key=lambda load: float(load["throughput"]))
    lines += [
        "",
        f"At most {100 * (1 - worst['throughput']):.1f} ± {100 * worst['throughput_error']:.1f} % "
        f"lost (aim: {100 * MOST_LOST:g} %).",
    ]
    return "\n".join(lines)


def _cell(load: dict[str, Any], name: str) -> str:
    least, greatest = load[f"{name}_range"]
    return f"{load[name]:.3f} ± {load[f'{name}_error']:.3f} ({least:.2f} to {greatest:.2f})"


if __name__ == "__main__":
    main()
