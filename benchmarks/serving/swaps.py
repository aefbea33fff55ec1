"""Twenty new versions under load, three of them bad files: does any request fail?

    python -m benchmarks.serving.swaps --requests 10000

Offers the requests at a steady rate while versions appear in the repository, each by a rename;
each change is waited for until ``/v1/models`` says that it serves or was refused. Writes
``serving_swaps.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
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

CHANGES = 20
BAD = {5: "cut off", 10: "no model at all", 15: "empty"}
"""Which of the changes are bad files, and how."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="over which they are spread")
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


def _swaps(
    server: Running, versions: _Versions, image: bytes, given: argparse.Namespace
) -> dict[str, Any]:
    answered: Counter[int] = Counter()

    def seen(status: int, body: bytes) -> None:
        if status == 200:
            answered[json.loads(body)["version"]] += 1

    states: dict[int, str] = {}
    changing = threading.Thread(target=_change, args=(server.port, versions, states, given.seconds))
    changing.start()
    rate = 1.02 * given.requests / given.seconds  # arrivals by chance: enough for the number
    outcome = offer(server.port, ISOSERVE.post(image), rate, given.seconds, seen)
    changing.join()
    return {
        "requests": given.requests,
        "seconds": given.seconds,
        "offered": outcome.offered,
        "statuses": {str(status): count for status, count in outcome.statuses.items()},
        "lost": outcome.lost,
        "failed": outcome.offered - outcome.statuses[200],
        "p50_ms": outcome.quantile_ms(200, 0.5),
        "p99_ms": outcome.quantile_ms(200, 0.99),
        "changes": CHANGES,
        "bad_files": BAD,
        "states": states,
        "answers_by_version": dict(sorted(answered.items())),
    }


def _change(port: int, versions: _Versions, states: dict[int, str], seconds: float) -> None:
    began = time.monotonic()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        for change in range(1, CHANGES + 1):
            due = began + change * 0.95 * seconds / (CHANGES + 1)
            time.sleep(max(0.0, due - time.monotonic()))
            versions.publish(change + 1, BAD.get(change, ""))
            states[change + 1] = _settled(client, change + 1)


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
    statuses = ", ".join(f"{count} × {status}" for status, count in result["statuses"].items())
    return "\n".join(
        [
            "# Versions changed under load",
            "",
            f"`python -m benchmarks.serving.swaps --requests {result['requests']} --seconds "
            f"{result['seconds']:g}`: {result['offered']} requests in an open loop, "
            f"{result['changes']} new versions of a 15-MFLOP network, {len(result['bad_files'])} "
            f"of them bad ({', '.join(result['bad_files'].values())}).",
            "",
            f"- Answers: {statuses}; {result['lost']} without one; **{result['failed']} failed**. "
            f"p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms.",
            f"- New versions: {said}; {len(result['answers_by_version'])} versions answered.",
        ]
    )


if __name__ == "__main__":
    main()
