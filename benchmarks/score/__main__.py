"""``isoserve score`` on Ray against ``isoserve predict``: the same rows, processor time, deaths.

    python -m benchmarks.score IMAGES --model model.onnx --output benchmarks/results

The images, some of them broken, lie as a folder, as Parquet files and as tars. ``predict`` judges
them all as files; ``score`` by two workers on a Ray of its own, once undisturbed, once with a
worker killed by SIGKILL, and once with the driver killed and the same command given again. Rows are
compared by label, verdict and error. Processor time is user and system time of every process that a
command starts, Ray's own among them; Ray's start is that of an empty job with as many actors.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import ray

from benchmarks.score.processes import Finished, adopt_orphans, run
from benchmarks.score.sources import bodies, write_folder, write_sources

EMPTY_JOB = """
import os, sys
os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1")
import ray
class Empty:
    def here(self):
        return os.getpid()
workers = int(sys.argv[1])
ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
actors = [ray.remote(num_cpus=1)(Empty).remote() for _ in range(workers)]
ray.get([actor.here.remote() for actor in actors])
ray.shutdown()
"""

Row = tuple[str | None, bool | None, str | None]
"""Label, verdict and error."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1")
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(given, Path(folder))
    path = given.output / "score.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(path)


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every run, and what came of it."""
    images = bodies(given.images, given.count, given.broken)
    sources = write_sources(images, folder / "sources")
    write_folder(images, folder / "files")
    score = Scoring(sources, given.model, given.workers, folder)

    predicted = folder / "predicted.jsonl"
    predict = _checked(
        "predict",
        run(
            [
                *("-c", _TO_FILE, str(predicted), "predict", str(folder / "files")),
                *("--model", str(given.model), "--format", "jsonl"),
            ]
        ),
        codes=(0, 1),
    )
    wanted = rows_of_predict(predicted)
    empty = _checked("an empty job", run(["-c", EMPTY_JOB, str(given.workers)]))
    undisturbed = _checked("score", score.run("undisturbed"))
    report: dict[str, Any] = {
        "command": _command(given),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": given.count,
        "broken": given.broken,
        "workers": given.workers,
        "ray": ray.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "cpu_seconds": {
            "predict": predict.cpu_seconds,
            "empty_ray_job": empty.cpu_seconds,
            "score": undisturbed.cpu_seconds,
        },
        "cpu_seconds_of_score_by_program": undisturbed.cpu_by_name,
        "cpu_ratio": (undisturbed.cpu_seconds - empty.cpu_seconds) / predict.cpu_seconds,
        "undisturbed": compare(wanted, rows_of_score(score.output("undisturbed"))),
    }
    _checked("score with a worker killed", score.run("worker", kill="ray::_Scorer"))
    report["worker_killed"] = compare(wanted, rows_of_score(score.output("worker")))
    killed = score.run("driver", kill="driver")
    assert killed.exit_code == -signal.SIGKILL, killed.error
    before = len(rows_of_score(score.output("driver")))
    _checked("score given again", score.run("driver"))
    report["driver_killed"] = compare(wanted, rows_of_score(score.output("driver")))
    report["driver_killed"]["rows_before_the_rerun"] = before
    return report


class Scoring:
    """``isoserve score`` of the same sources into one output after the other."""

    def __init__(self, sources: list[str], model: Path, workers: int, folder: Path) -> None:
        self._sources, self._model, self._workers = sources, model, workers
        self._folder = folder

    def output(self, name: str) -> Path:
        """Where the run of this name writes."""
        return self._folder / "scored" / name

    def run(self, name: str, kill: str = "") -> Finished:
        """Once; with ``kill``, one process of that command line, or the driver, dies halfway."""
        output, done = self.output(name), False
        parts = len(list(output.glob("part-*"))) if output.exists() else 0

        def watch(living: dict[int, str], driver: int) -> None:
            nonlocal done
            if done or not kill or len(list(output.glob("part-*"))) < parts + 3:
                return
            named = (pid for pid, words in living.items() if words.startswith(kill))
            victim = driver if kill == "driver" else next(named, None)
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                done = True

        finished = run(
            [
                *("-m", "isoserve", "score", *self._sources, "--model", str(self._model)),
                *("--output", str(output), "--address", "local"),
                *("--workers", str(self._workers)),
            ],
            watch,
        )
        assert done or not kill, f"nothing was killed: {finished.error}"
        return finished


def rows_of_predict(path: Path) -> dict[str, Row]:
    """Name -> row."""
    rows = {}
    for line in path.read_text().splitlines():
        said = json.loads(line)
        name = Path(said["path"]).name
        if "error" in said:
            rows[name] = (None, None, said["error"]["reason"])
        else:
            rows[name] = (said["prediction"]["label"], said["ood"]["is_ood"], None)
    return rows


def rows_of_score(output: Path) -> list[tuple[str, Row]]:
    """Name and row, as often as it is there."""
    columns = ["id", "label", "is_ood", "error"]
    return [
        (Path(row["id"]).name, (row["label"], row["is_ood"], row["error"]))
        for part in sorted(output.glob("part-*.parquet"))
        for row in parquet.read_table(part, columns=columns).to_pylist()
    ]


def compare(wanted: dict[str, Row], found: list[tuple[str, Row]]) -> dict[str, int]:
    """How many images are lost, there twice, or judged otherwise."""
    rows = dict(found)
    return {
        "rows": len(found),
        "lost": len(wanted.keys() - rows.keys()),
        "twice": len(found) - len(rows),
        "different": sum(rows[name] != row for name, row in wanted.items() if name in rows),
        "errors": sum(row[2] is not None for row in rows.values()),
    }


_TO_FILE = """
import sys
sys.stdout = open(sys.argv.pop(1), "w")
from isoserve.cli import main
main()
"""


def _command(given: argparse.Namespace) -> str:
    """Without the folders of this machine."""
    options = f"--count {given.count} --broken {given.broken} --workers {given.workers}"
    return f"python -m benchmarks.score IMAGES --model MODEL {options} --output benchmarks/results"


def _checked(name: str, finished: Finished, codes: tuple[int, ...] = (0,)) -> Finished:
    if finished.exit_code not in codes:
        raise RuntimeError(f"{name} ended with {finished.exit_code}: {finished.error}")
    print(f"{name}: {finished.cpu_seconds:.1f} s of processor, {finished.wall_seconds:.1f} s")
    return finished


if __name__ == "__main__":
    main()
