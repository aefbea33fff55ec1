"""Runs every panel against the live service under traffic, and draws the dashboards.

    python deploy/grafana/draw_dashboards.py [--phase-seconds 75] [--models FOLDER] [--to FOLDER]

Starts ``isoserve serve``, a real Prometheus and deploy/traffic.py on this machine: usual images,
fog, usual images, foreign ones, a phase each; beside them broken images, bursts, a version that is
refused, and a shadow: a copy of the model under the next version, which so agrees always. Windows
of the rules are 15 times as short as in earnest, so that five minutes show what else takes over an
hour. Writes dashboard_model.png and dashboard_service.png; a panel whose query finds nothing fails
it. Needs Debian's ``prometheus`` and the ``train`` extra (matplotlib).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live_prometheus import LivePrometheus, SpeedUp
from pictures import Answers, dashboard_picture

log = logging.getLogger("draw_dashboards")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HASTE = SpeedUp("1s", {"5m": "20s", "30m": "2m", "6h": "24m"}, "28s")
POINTS = 240
RATE_SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phase-seconds", type=float, default=75.0)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second")
    parser.add_argument("--models", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(given.models, folder / "models")
        with served(folder, shadows(folder / "models")) as url:
            prometheus = LivePrometheus(folder, url.removeprefix("http://"), HASTE)
            yesterday(prometheus, url)
            with prometheus, disturbed(url, folder / "models"):
                span = send(url, given.rate, given.phase_seconds)
                # One more scrape and evaluation of every group.
                time.sleep(3)
                draw(prometheus, span, given.to)


def draw(prometheus: LivePrometheus, span: tuple[float, float], to: Path) -> None:
    """Both dashboards; raises ``SystemExit`` where a query finds nothing."""
    for file in sorted((HERE / "dashboards").glob("*.json")):
        document = json.loads(file.read_text())
        path = to / f"dashboard_{file.stem}.png"
        dashboard_picture(document, answers(document, prometheus, span), path)
        log.info("%s", path)


def answers(
    document: dict[str, Any], prometheus: LivePrometheus, span: tuple[float, float]
) -> Answers:
    """What each panel is answered; raises ``SystemExit`` where a query finds nothing."""
    found: Answers = {}
    empty = []
    for panel in document["panels"]:
        made = []
        for target in panel["targets"]:
            expression = filled(target["expr"], prometheus.haste)
            if target["range"]:
                step = max(1.0, (span[1] - span[0]) / POINTS)
                made.append(prometheus.curves(expression, span, step))
            else:
                made.append(prometheus.samples(expression, span[1]))
            if not any(map(_has_a_number, made[-1])):
                empty.append(f"{document['title']}, {panel['title']}: {target['expr']}")
        found[panel["title"]] = made
    if empty:
        raise SystemExit("nothing found by\n" + "\n".join(empty))
    return found


def filled(expression: str, haste: SpeedUp) -> str:
    """A panel's expression: variables set to everything, windows as short as those of the rules."""
    expression = expression.replace("$__rate_interval", f"{RATE_SECONDS}s")
    return haste.rules(re.sub(r"\$(job|model|version)", ".+", expression))


def _has_a_number(series: dict[str, Any]) -> bool:
    samples = series.get("values") or [series["value"]]
    return any(float(text) == float(text) for _, text in samples)


def shadows(models: Path) -> str:
    """Give each model a copy of its highest version as a shadow; the setting that names them."""
    named = []
    for model in sorted(models.iterdir()):
        highest = max(int(version.name) for version in model.iterdir())
        shutil.copytree(model / str(highest), model / str(highest + 1))
        named.append(f"{model.name}:{highest + 1}:1")
    return ",".join(named)


@contextmanager
def served(folder: Path, shadow: str) -> Iterator[str]:
    """The real service on the models in a folder, with these shadows; its address."""
    command = [sys.executable, "-m", "isoserve", "serve", str(folder / "models"), "--port", "0"]
    command += ["--shadow", shadow]
    with (folder / "served").open("w") as said:
        process = subprocess.Popen(command, stderr=said, cwd=ROOT)
    try:
        until = time.monotonic() + 60
        while not (url := ready_url((folder / "served").read_text())):
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit((folder / "served").read_text())
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def ready_url(said: str) -> str:
    """The address that a server's log names, once a model is ready there; empty before."""
    if not (at := re.search(r"listening on (http://\S+)", said)):
        return ""
    try:
        with urllib.request.urlopen(f"{at[1]}/healthz/ready", timeout=5):
            return at[1]
    except urllib.error.URLError:
        return ""


def send(url: str, rate: float, seconds: float) -> tuple[float, float]:
    """One round of traffic; when it began and ended."""
    command = [sys.executable, str(ROOT / "deploy" / "traffic.py"), "--url", url]
    command += ["--rate", str(rate), "--seconds", str(seconds), "--rounds", "1"]
    sender = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert sender.stderr
    began = None
    for line in sender.stderr:
        log.info("%s", line.strip())
        if re.search(r"usual for", line) and began is None:
            # Else the curves begin with the search for stand-ins.
            began = time.time() + RATE_SECONDS
    if sender.wait() or began is None:
        raise SystemExit("traffic.py failed")
    return began, time.time()


def yesterday(prometheus: LivePrometheus, url: str) -> None:
    """Half an hour of yesterday's mix of classes, which today's is compared with."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
        models = json.load(answer)["models"]
    for model in models:
        labels = f'job="isoserve",model="{model["name"]}"'
        classes = model["versions"][0]["card"]["classes"]
        series = {f"isoserve:class_mix:images{{{labels}}}": 1000.0 * len(classes)}
        for name in classes:
            series[f'isoserve:class_mix:count{{{labels},label="{name}"}}'] = 1000.0
            series[f'isoserve:class_mix:share{{{labels},label="{name}"}}'] = 1 / len(classes)
        prometheus.backfill(series, range(-1445, -1415))


@contextmanager
def disturbed(url: str, models: Path) -> Iterator[None]:
    """Broken images now and then, bursts of many at once, and one version that does not load."""
    over = threading.Event()
    name = next(models.iterdir()).name
    image = (ROOT / "docs" / "pictures" / "page_known.png").read_bytes()

    def disturb() -> None:
        with ThreadPoolExecutor(24) as pool:
            for second in itertools.count():
                post(url, b"no image")
                if second % 40 == 20:
                    list(pool.map(lambda _: post(url, image), range(120)))
                if second == 60:
                    (models / name / "99").mkdir()
                    (models / name / "99" / "model.onnx").write_bytes(b"no model")
                if over.wait(1 + second % 3):
                    return

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def post(url: str, body: bytes) -> int:
    """The status of an answer to a prediction request; 0 where a busy machine gave none in time."""
    try:
        with urllib.request.urlopen(f"{url}/v1/predict", data=body, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


if __name__ == "__main__":
    main()
