"""New versions under load, three of them bad files: does any request fail, does memory grow?

    python -m benchmarks.serving.swaps --changes 200

Offers the requests at a steady rate while versions appear in the repository, each by a rename, and
old ones go; each change is waited for until ``/v1/models`` says that it serves or was refused.
Memory is the server's with the process that tries files, after each change: its growth is from the
mean of the second fifth of them to that of the last. Writes ``serving_swaps.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.images import write_image
from benchmarks.serving.networks import WIDTHS, write_network
from benchmarks.serving.open_loop import offer
from benchmarks.serving.report import RESULTS, circumstances, write_result
from benchmarks.serving.servers import ISOSERVE, Running, running

BAD = {5: "cut off", 10: "no model at all", 15: "empty"}
"""Which of the changes are bad files, and how."""

KEPT = 4
"""Versions that lie in the repository: one that serves while the next are bad is among them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=200, help="new versions; 20 at least")
    parser.add_argument("--seconds", type=float, default=120.0, help="over which all is spread")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = write_image(Path(folder) / "image.jpg")
        versions = _Versions(Path(folder))
        versions.publish(1, "")
        flags = ("--watch-seconds", "0.2")
        with running(ISOSERVE, versions.root, image, *flags) as server:
            result = _swaps(server, versions, image.read_bytes(), given)
    write_result(given.out, "serving_swaps", {**circumstances(), **result}, _markdown(result))


class _Versions:
    """A repository of one model, filled version by version."""

    def __init__(self, folder: Path) -> None:
        self.root, self._apart = folder / "repository", folder / "apart"
        (self.root / "net").mkdir(parents=True)

    def publish(self, version: int, fault: str) -> None:
        """Make the version aside and move it into its place."""
        made = self._apart / str(version)
        file = write_network(made / "model.onnx", WIDTHS["15-MFLOP"], seed=version)
        if fault:
            whole = file.read_bytes()
            bad = {"cut off": whole[: len(whole) // 2], "no model at all": b"x" * 999, "empty": b""}
            file.write_bytes(bad[fault])
        made.rename(self.root / "net" / str(version))
        if version > KEPT:
            shutil.rmtree(self.root / "net" / str(version - KEPT))


def _swaps(
    server: Running, versions: _Versions, image: bytes, given: argparse.Namespace
) -> dict[str, Any]:
    answered: Counter[int] = Counter()

    def seen(status: int, body: bytes) -> None:
        if status == 200:
            answered[json.loads(body)["version"]] += 1

    states: dict[int, str] = {}
    memory: list[float] = []

    def change() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
            for version in range(2, given.changes + 2):
                due = began + (version - 1) * 0.95 * given.seconds / (given.changes + 1)
                time.sleep(max(0.0, due - time.monotonic()))
                versions.publish(version, BAD.get(version - 1, ""))
                states[version] = _settled(client, version)
                memory.append(server.resident_mb())

    began = time.monotonic()
    changing = threading.Thread(target=change)
    changing.start()
    rate = 1.02 * given.requests / given.seconds  # arrivals by chance: enough for the number
    outcome = offer(server.port, ISOSERVE.post(image), rate, given.seconds, seen)
    changing.join()
    fifth = len(memory) // 5
    early, late = memory[fifth : 2 * fifth], memory[-fifth:]
    return {
        "requests": given.requests,
        "seconds": given.seconds,
        "offered": outcome.offered,
        "statuses": {str(status): count for status, count in outcome.statuses.items()},
        "lost": outcome.lost,
        "failed": outcome.offered - outcome.statuses[200],
        "p50_ms": outcome.quantile_ms(200, 0.5),
        "p99_ms": outcome.quantile_ms(200, 0.99),
        "changes": given.changes,
        "bad_files": BAD,
        "states": states,
        "versions_that_answered": len(answered),
        "memory_mb": [round(each, 1) for each in memory],
        "memory_growth": statistics.fmean(late) / statistics.fmean(early) - 1,
    }


def _settled(client: httpx.Client, version: int) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        listed = client.get("/v1/models/net").json()["versions"]
        state = next((each["state"] for each in listed if each["version"] == version), "unseen")
        if state in ("serving", "refused"):
            return str(state)
        time.sleep(0.05)
    return "not in 20 s"


def _markdown(result: dict[str, Any]) -> str:
    states = Counter(result["states"].values())
    said = ", ".join(f"{count} {state}" for state, count in states.items())
    memory = result["memory_mb"]
    statuses = ", ".join(f"{count} × {status}" for status, count in result["statuses"].items())
    return "\n".join(
        [
            "# Versions changed under load",
            "",
            f"`python -m benchmarks.serving.swaps --changes {result['changes']} --requests "
            f"{result['requests']} --seconds {result['seconds']:g}`: {result['offered']} "
            "requests in an open loop, "
            f"{result['changes']} new versions of a 15-MFLOP network, {len(result['bad_files'])} "
            f"of them bad ({', '.join(result['bad_files'].values())}).",
            "",
            f"- Answers: {statuses}; {result['lost']} without one; **{result['failed']} failed**. "
            f"p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms.",
            f"- New versions: {said}; {result['versions_that_answered']} versions answered.",
            f"- Memory {result['memory_growth']:+.1%}: {memory[0]:.0f} MB after the first change, "
            f"{max(memory):.0f} MB at most, {memory[-1]:.0f} MB after the last.",
        ]
    )


if __name__ == "__main__":
    main()
