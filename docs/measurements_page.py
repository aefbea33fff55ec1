"""Writes docs/measurements.md and the README's numbers: python docs/measurements_page.py

No measured number is typed by hand: each is read from the file that its command wrote into
benchmarks/results; a test compares both pages with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGE = Path(__file__).with_name("measurements.md")
RESULTS = ROOT / "benchmarks" / "results"
BLOB = "https://github.com/isoserve/isoserve/blob/main"

BEGIN = "<!-- Written by docs/measurements_page.py from benchmarks/results. -->\n"
END = "<!-- End of what docs/measurements_page.py writes. -->\n"

CONNECTIONS = ("1", "8", "64")

AUTO = "isoserve, auto"
"""Isoserve with ``--engine auto``, as the benchmarks name it."""

HEAD = f"""\
# Measurements

<!-- Written by docs/measurements_page.py from benchmarks/results; change it there. -->

Every number below is read from a file that its command wrote; the commands are in
[benchmarks/]({BLOB}/benchmarks/README.md). Compare ratios within a run, not times of two. How the
other servers behave apart from speed is on [a page of its own](rivals.md).

"""


def readme() -> str:
    """The README with its numbers written anew."""
    text = README.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return before + BEGIN + "\n" + _in_short() + "\n" + after


def measurements_page() -> str:
    """The page's text."""
    parts = [
        *(_photographs(), _engines()),
        *(_ood_overhead(), _int8(), _folder(), _observability()),
        *(_soak(), _overload(), _throughput(), _start_and_latency()),
    ]
    return HEAD + "\n".join(parts)


def _in_short() -> str:
    overhead = _result("ood_overhead")["rows"]
    throughput = _result("serving_throughput")["networks"]["cifar10"]["servers"]["isoserve"]
    soak, overload = _result("serving_soak"), _result("serving_overload")
    ratios = " and ".join(
        f"{throughput[connections]['ratio']:.2f} at {connections} connections"
        for connections in ("8", "64")
    )
    costs = " and ".join(
        f"{_percent(row['ratio'] - 1)} at batch {row['batch_size']}" for row in overhead
    )
    photographs = _result("serving_photographs")
    engines = _result("engines_cifar10")
    best = max(engines["speed"][-1]["ratio"], key=engines["speed"][-1]["ratio"].get)
    faster = ", ".join(
        f"{each['ratio'][best]:.2f} at batch {each['batch_size']}" for each in engines["speed"]
    )
    rows = {
        f"JPEGs of {name.split()[1]} MP over {photographs['connections']} connections, "
        "answers a second against plain FastAPI with the same decoder": _against_fastapi(
            entry["servers"]
        )
        for name, entry in photographs["photographs"].items()
        if name.startswith("JPEG") and "servers" in entry
    }
    rows |= {
        f"{best.replace('openvino', 'OpenVINO in')} (`--engine auto`) against ONNX Runtime, images "
        "a second of the CIFAR-10 network on one core": f"{faster}; "
        f"{100 * engines['agreement'][best]['same_verdict']:.1f} % of the verdicts the same",
        "Images a second over HTTP against a bare ONNX Runtime loop on the same cores": ratios,
        "Time of a run with score and p-values against a plain SoftMax head": costs,
        f"{soak['offered']:,} mixed, hostile images in {soak['seconds'] / 60:g} minutes": "memory "
        f"{_percent(soak['memory_growth'])}, {soak['lost']} requests without an answer",
        f"{overload['times']:g} times the load it can take": "p99 of what is accepted "
        f"{overload['p99_ratio']:.2f} times that at 0.8 of the capacity",
    }
    lines = [
        "| | measured |",
        "|---|---|",
        *(f"| {name} | {said} |" for name, said in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def _against_fastapi(servers: Any) -> str:
    rivals = ", ".join(
        f"{name} {_photograph_ratio(load)}"
        for name, load in servers.items()
        if name not in ("isoserve", AUTO, "plain FastAPI")
    )
    auto = f", {_photograph_ratio(servers[AUTO])} with `--engine auto`" if AUTO in servers else ""
    own = f"{_photograph_ratio(servers['isoserve'])}{auto}"
    return own + (f" ({rivals})" if rivals else "")


def _photographs() -> str:
    found = _result("serving_photographs")
    served = {name: each for name, each in found["photographs"].items() if "servers" in each}
    servers = list(dict.fromkeys(name for each in served.values() for name in each["servers"]))
    lines = [
        "Photographs, answers a second over plain FastAPI's in the same rounds; a closed loop of "
        f"`wrk` over {found['connections']} connections on the same {found['cores']} cores; model "
        f"{found['model']}; every server decodes with Isoserve's functions; only answers below 400 "
        f"count; {found['date'][:10]}, load average {found['load_average_before']:.1f} beforehand; "
        f"`{found['command']}`, [latencies and refusals]"
        f"({BLOB}/benchmarks/results/serving_photographs.md).",
        "",
        f"| photograph | {' | '.join(_shown(name) for name in servers)} |",
        f"|---|{'---|' * len(servers)}",
    ]
    for name, entry in served.items():
        ratios = [_photograph_ratio(entry["servers"].get(server)) for server in servers]
        size = f"{name} MP, {entry['bytes'] / 1e6:.1f} MB"
        lines.append(f"| {size} | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def _photograph_ratio(load: Any) -> str:
    """A dash where a server answered hardly any: by its own limits, or in seconds each."""
    answered = load and "ratio" in load and load["errors"] == 0 and load["per_second"] >= 2
    return f"{load['ratio']:.2f}" if answered else "–"


def _engines() -> str:
    reports = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("engines_*.json"))]
    sizes = [each["batch_size"] for each in reports[0]["speed"]]
    lines = [
        "Engines, images a second over ONNX Runtime's in float32, on one core; and how many "
        "verdicts and classes are the same as its on in-distribution images; "
        f"`{reports[0]['command']}`.",
        "",
        f"| model | engine | {' | '.join(f'batch {size}' for size in sizes)} | same verdict "
        "| same class | images |",
        f"|---|---|{'---|' * (len(sizes) + 3)}",
    ]
    for report in reports:
        for name, agreement in report["agreement"].items():
            if name == "onnxruntime":
                continue
            cells = [f"{each['ratio'][name]:.2f}" for each in report["speed"]]
            cells += [f"{100 * agreement[key]:.2f} %" for key in ("same_verdict", "same_class")]
            lines.append(
                f"| {report['model']} | {name} | {' | '.join(cells)} | {agreement['n']:,} |"
            )
    return "\n".join(lines) + "\n"


def _ood_overhead() -> str:
    found = _result("ood_overhead")
    costs = " and ".join(
        f"{_percent(row['ratio'] - 1)} at batch {row['batch_size']}" for row in found["rows"]
    )
    return (
        f"- **What the OOD scores cost**: {found['network']} with all scores and p-values "
        f"against the same with a plain SoftMax head, {found['clock']} time of a run {costs} "
        f"(median of {found['rows'][0]['rounds']} pairs; `{found['command']}`)."
    )


def _int8() -> str:
    found = _result("quantize")
    faster = ", ".join(
        f"{ratio:.2f} times the images a second by {engine} in batches of {batch}"
        for engine, by_size in found["speedup"].items()
        for batch, ratio in by_size.items()
    )
    accuracy = found["accuracy"]["int8"] - found["accuracy"]["float32"]
    auroc = min(each["int8"] - each["float32"] for each in found["auroc"].values())
    return (
        f"- **8 bits** (`isoserve quantize`), {found['model']} with {found['network']}: {faster}; "
        f"accuracy "
        f"{100 * accuracy:+.2f} points on {found['images']:,} images, the worst of "
        f"{len(found['auroc'])} AUROCs {100 * auroc:+.2f} (`{found['command']}`)."
    )


def _folder() -> str:
    found = _result("predict_folder")
    return (
        f"- **`isoserve predict`** on {found['images']:,} files: {found['ratio_median']:.2f} of "
        f"the images a second of the bare network on pixels in memory (median of "
        f"{len(found['rounds'])}; its memory grew by "
        f"{found['memory_growth_mib_max']:.2f} MiB at most; "
        f"`{found['command']}`)."
    )


def _observability() -> str:
    found = _result("serving_observability")
    loads = found["servers"]["metrics and log"]
    said = " and ".join(
        f"{_percent(load['throughput'] - 1)} ± {100 * load['throughput_error']:.1f} % at "
        f"{connections} connections"
        for connections, load in loads.items()
    )
    every = [load for each in found["servers"].values() for load in each.values()]
    worst = min(every, key=lambda load: float(load["throughput"]))
    return (
        f"- **What metrics and a JSON line per request cost**: images a second with them on "
        f"against off {said}; the worst of four medians, metrics without the log among them, "
        f"{_percent(worst['throughput'] - 1)} ± {100 * worst['throughput_error']:.1f} % (default "
        f"network; {len(found['rounds'])} rounds in turns, with standard errors; "
        f"`{found['command']}`, [more]({BLOB}/benchmarks/results/serving_observability.md))."
    )


def _soak() -> str:
    found = _result("serving_soak")
    return (
        f"- **{found['offered']:,} mixed, hostile images** in {found['seconds'] / 60:g} minutes: "
        f"memory {_percent(found['memory_growth'])} after the warm-up, {found['lost']} requests "
        f"without an answer ([more]({BLOB}/benchmarks/results/serving_soak.md))."
    )


def _overload() -> str:
    found = _result("serving_overload")
    over = found["overload"]
    refused = over["statuses"]["429"]
    return (
        f"- **{found['times']:g} times the load it can take**, for {found['seconds']:g} s: p99 of "
        f"what is accepted {found['p99_ratio']:.2f} times that at 0.8 of the capacity; "
        f"{refused:,} of {over['offered']:,} requests answered 429 at once, "
        f"{over['lost']} lost, {over['offered'] - over['accepted'] - refused - over['lost']} "
        "other errors (`python -m benchmarks.serving.overload`).\n"
    )


def _throughput() -> str:
    found = _result("serving_throughput")
    taken = [network["taken"] for network in found["networks"].values()]
    runs = "; ".join(
        f"{name} {each['rounds']} rounds of {each['seconds']} s on {each['date'][:10]}, load "
        f"average {each['load_average_before']:.1f} beforehand"
        for name, each in zip(found["networks"], taken, strict=True)
    )
    lines = [
        "Images a second over those of a bare ONNX Runtime loop of batch 1 on every core in the "
        "same minutes; a 32 × 32 JPEG a request, from `wrk` on the same cores; everything of "
        f"Isoserve's on. Medians; {found['processor']}, {found['cores']} cores; {runs}; "
        "`python -m benchmarks.serving.throughput`, "
        f"[ranges and latencies]({BLOB}/benchmarks/results/serving_throughput.md). The bare loop "
        "in batches of 32 bounds what batching can bring.",
        "",
        "| network | server | c = 1 | c = 8 | c = 64 | p99 at 64, ms | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, network in found["networks"].items():
        lines += [_row(name, server, network) for server in network["servers"]]
        batched = f"{network['batched_ratio']:.2f}"
        lines.append(f"| {name} | bare, batches of 32 | {batched} | {batched} | {batched} | | |")
    return "\n".join(lines) + "\n"


def _row(name: str, server: str, network: Any) -> str:
    loads = network["servers"][server]
    shown = _shown(server)
    cells = [f"{loads[connections]['ratio']:.2f}" for connections in CONNECTIONS]
    cells += [f"{loads['64']['p99_ms']:.0f}", f"{network['memory_mb'][server]:.0f}"]
    return f"| {name} | {shown} | {' | '.join(cells)} |"


def _start_and_latency() -> str:
    start, latency = _result("serving_start"), _result("serving_latency")
    shares = [f"{100 * float(share):.0f} %" for share in latency["servers"]["isoserve"]]
    lines = [
        f"From the command to the first answered image (`{start['command']}`, load average "
        f"{start['load_average_before']:.1f} beforehand), memory after a load, and latency where "
        f"{' and '.join(shares)} of what plain FastAPI can do come in an open loop "
        f"(`{latency['command']}`, load average {latency['load_average_before']:.1f} beforehand, "
        f"[refusals]({BLOB}/benchmarks/results/serving_latency.md)).",
        "",
        "| server | first answer, s | memory, MB | "
        + " | ".join(f"p50 / p99 at {share}, ms" for share in shares)
        + " |",
        f"|---|---|---|{'---|' * len(shares)}",
    ]
    for server, found in start["servers"].items():
        loads = latency["servers"].get(server, {}).values()
        cells = [f"{found['seconds']:.2f}", f"{found['memory_under_load_mb']:.0f}"]
        cells += [f"{load['p50_ms']:.0f} / {load['p99_ms']:.0f}" for load in loads] or ["–"] * 2
        lines.append(f"| {_shown(server)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(server: str) -> str:
    return f"**{server.replace('isoserve', 'Isoserve')}**" if "isoserve" in server else server


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


if __name__ == "__main__":
    PAGE.write_text(measurements_page())
    README.write_text(readme())
