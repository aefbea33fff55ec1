"""Throughput and latency as ratios to the bare network, for Isoserve and what else is installed.

    python -m benchmarks.serving.throughput --rounds 5 --seconds 4

Every round runs the bare loop and then each server at 1, 8 and 64 connections, so that whatever
else the machine does falls on all alike; the ratio is taken within the round. Writes
``serving_throughput.json`` and ``.md`` after each network and ``.png`` at the end into
``benchmarks/results``; with ``--only`` the other networks' entries stay, with the circumstances of
their own run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.serving.bare import BATCH
from benchmarks.serving.images import write_image
from benchmarks.serving.load import drive, refused
from benchmarks.serving.networks import WIDTHS, write_network
from benchmarks.serving.report import RESULTS, circumstances, save_result
from benchmarks.serving.servers import (
    ISOSERVE,
    ISOSERVE_AUTO,
    ISOSERVE_WORKERS,
    RIVALS,
    Candidate,
    Running,
    running,
)

CONNECTIONS = (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--model", type=Path, help="a model.onnx beside the untrained networks")
    parser.add_argument("--only", default="", help="networks, with commas between them")
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--leave-out", default="", help="rivals, with commas between them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    run = circumstances()
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        models = {
            name: write_network(Path(folder) / f"{name}.onnx", width)
            for name, width in WIDTHS.items()
        }
        if given.model:
            models[given.model.parent.parent.name or "given"] = given.model
        chosen = given.only.split(",") if given.only else list(models)
        left_out = given.leave_out.split(",")
        rivals = [] if given.no_rivals else [each for each in RIVALS if each.available]
        rivals = [each for each in rivals if each.name not in left_out]
        networks = taken_before(given.out)
        for name in chosen:
            taken = {**circumstances(), "rounds": given.rounds, "seconds": given.seconds}
            networks[name] = {"taken": taken, **_measure(models[name], image, rivals, given)}
            result = {**run, "networks": networks}
            save_result(given.out, "serving_throughput", result, markdown(networks))
    print(markdown(networks))
    _plot(networks, given.out / "serving_throughput.png")


def taken_before(folder: Path) -> dict[str, Any]:
    """The networks of an earlier run, with the circumstances of each."""
    try:
        found: dict[str, Any] = json.loads((folder / "serving_throughput.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: entry for name, entry in found["networks"].items() if "taken" in entry}


def _measure(model: Path, image: Path, rivals: list[Candidate], given: argparse.Namespace) -> Any:
    rounds = []
    with ExitStack() as stack:
        servers, absent = [], []
        own = [each for each in (ISOSERVE, ISOSERVE_AUTO, ISOSERVE_WORKERS) if each.available]
        for candidate in (*own, *rivals):
            try:
                servers.append(stack.enter_context(running(candidate, model, image)))
            except RuntimeError as error:
                print(f"left out: {error}", flush=True)
                absent.append(candidate.name)
        for server in servers:
            drive(server.port, server.candidate.post(image.read_bytes()), 8, 1)  # warm
        for number in range(given.rounds):
            rounds.append(_round(servers, model, image, given.seconds))
            print(f"{model.stem} round {number + 1}: {json.dumps(rounds[-1])}", flush=True)
        memory = {server.candidate.name: server.resident_mb() for server in servers}
    names = [server.candidate.name for server in servers]
    return {
        "bare_images_per_second": median(r["bare"]["images_per_second"] for r in rounds),
        "batched_ratio": median(r["bare"]["batched_ratio"] for r in rounds),
        "bare_decode_and_run_ms": median(r["bare"]["decode_and_run_ms"] for r in rounds),
        "memory_mb": memory,
        "did_not_start": absent,
        "servers": {name: _summary([r[name] for r in rounds]) for name in names},
        "rounds": rounds,
    }


def _round(servers: list[Running], model: Path, image: Path, seconds: int) -> dict[str, Any]:
    before = _bare(model, image, seconds / 2)
    measured: dict[str, Any] = {server.candidate.name: {} for server in servers}
    for connections in CONNECTIONS:
        for server in servers:
            post = server.candidate.post(image.read_bytes())
            load = drive(server.port, post, connections, seconds)
            measured[server.candidate.name][str(connections)] = load.as_dict()
    after = _bare(model, image, seconds / 2)
    bare = {key: (before[key] + after[key]) / 2 for key in before}
    bare["batched_ratio"] = bare["batched_images_per_second"] / bare["images_per_second"]
    for loads in measured.values():
        for load in loads.values():
            load["ratio"] = load["per_second"] / bare["images_per_second"]
            load["p50_over_decode_and_run_ms"] = load["p50_ms"] - bare["decode_and_run_ms"]
    return {"bare": bare, **measured}


def _bare(model: Path, image: Path, seconds: float) -> dict[str, float]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.serving.bare", str(model), str(image)),
            *("--seconds", str(seconds)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _summary(rounds: list[Any]) -> dict[str, Any]:
    """Median over the rounds, and the ratio's least and greatest."""
    summary: dict[str, Any] = {}
    for connections in map(str, CONNECTIONS):
        loads = [each[connections] for each in rounds]
        summary[connections] = {key: median(load[key] for load in loads) for key in loads[0]}
        ratios = [load["ratio"] for load in loads]
        summary[connections]["ratio_range"] = [min(ratios), max(ratios)]
        summary[connections]["refused"] = sum(load["refused"] for load in loads)
        summary[connections]["errors"] = sum(load["errors"] for load in loads)
    return summary


def markdown(networks: dict[str, Any]) -> str:
    lines = [
        "# Serving, against the bare network",
        "",
        "`python -m benchmarks.serving.throughput`: images a second over those of a bare ONNX "
        "Runtime loop of batch 1 on every core in the same round (its pixels decoded beforehand); "
        "a closed loop of `wrk` on the same cores, one 32 x 32 JPEG a request. Median of the "
        "rounds, least and greatest behind it; latency over all answers, those of 429 among them. "
        "`isoserve, auto` runs with `--engine auto`. The last row is the bare loop in batches of "
        f"{BATCH}: what batching could bring here at most.",
        "",
    ]
    for name, network in networks.items():
        lines += [
            f"## {name}: bare {network['bare_images_per_second']:.0f} images/s, decode + one run "
            f"{network['bare_decode_and_run_ms']:.2f} ms",
            "",
            "| server | c = 1 | c = 8 | c = 64 | p50 / p99 ms, c = 1 | c = 8 | c = 64 "
            "| 429 | other errors | memory MB |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for server, loads in network["servers"].items():
            cells = [
                "{:.2f} ({:.2f} to {:.2f})".format(load["ratio"], *load["ratio_range"])
                for load in loads.values()
            ]
            cells += [f"{load['p50_ms']:.1f} / {load['p99_ms']:.1f}" for load in loads.values()]
            cells.append(str(sum(refused(load) for load in loads.values())))
            cells.append(str(sum(load["errors"] for load in loads.values())))
            cells.append(f"{network['memory_mb'][server]:.0f}")
            lines.append(f"| {server} | {' | '.join(cells)} |")
        batched = f"{network['batched_ratio']:.2f}"
        lines.append(
            f"| bare, batches of {BATCH} | {batched} | {batched} | {batched} |  |  |  |  |  |  |"
        )
        if network["did_not_start"]:
            lines += ["", f"Installed, but did not start: {', '.join(network['did_not_start'])}."]
        taken = network["taken"]
        lines += [
            "",
            f"{taken['rounds']} rounds of {taken['seconds']} s; {taken['date']}, load average "
            f"{taken['load_average_before']} beforehand.",
        ]
        lines.append("")
    return "\n".join(lines)


def _plot(networks: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = [*dict.fromkeys(name for each in networks.values() for name in each["servers"])]
    figure, rows = plt.subplots(
        2, len(networks), figsize=(5 * len(networks), 7), squeeze=False, layout="constrained"
    )
    for column, (name, network) in enumerate(networks.items()):
        for server, loads in network["servers"].items():
            ratios = [load["ratio"] for load in loads.values()]
            colour = f"C{names.index(server)}"  # the same where another server is left out
            rows[0][column].plot(range(len(loads)), ratios, f"{colour}o-", label=server)
            p99s = [load["p99_ms"] for load in loads.values()]
            rows[1][column].plot(range(len(loads)), p99s, f"{colour}o-", label=server)
        rows[0][column].axhline(1.0, color="gray", linewidth=1, linestyle="--")
        rows[0][column].axhline(
            network["batched_ratio"],
            color="black",
            linewidth=1,
            linestyle=":",
            label=f"bare, batches of {BATCH}",
        )
        rows[0][column].set(title=name, ylabel="images/s over the bare loop's", ylim=(0, None))
        rows[1][column].set(ylabel="p99, ms", yscale="log", xlabel="connections")
        for row in rows:
            row[column].set_xticks(range(len(CONNECTIONS)), [str(c) for c in CONNECTIONS])
    rows[0][0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
