"""A Prometheus on this machine that scrapes a running service, with our rules made quick."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[1] / "prometheus"
READY_SECONDS = 60


@dataclass(frozen=True)
class SpeedUp:
    """How much quicker than in earnest everything is.

    ``interval`` is that of scrapes and of every group of rules; ``windows`` says which window of a
    rule becomes which, as in ``{"30m": "2m"}``; ``holds`` is the ``for`` of every alert.
    """

    interval: str = "1s"
    windows: dict[str, str] = field(default_factory=dict)
    holds: str = ""

    def rules(self, text: str) -> str:
        """A rule file, quicker."""
        text = re.sub(r"interval: \w+", f"interval: {self.interval}", text)
        for slow, quick in self.windows.items():
            text = text.replace(f"[{slow}]", f"[{quick}]")
        return re.sub(r"\bfor: \w+", f"for: {self.holds}", text) if self.holds else text


class LivePrometheus:
    """A ``prometheus`` as a context, asked over HTTP; raises ``RuntimeError`` on a refusal."""

    def __init__(self, folder: Path, target: str, haste: SpeedUp) -> None:
        self.folder, self.target, self.haste = folder, target, haste
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"

    def __enter__(self) -> LivePrometheus:
        self._configure()
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if time.monotonic() > until or self._process.poll() is not None:
                self.__exit__()
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()

    def samples(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The instant vector, now or then: ``metric`` and ``value`` = [seconds, text] each."""
        now = time.time() if at is None else at
        found: list[dict[str, Any]] = self._ask("query", query=expression, time=now)["result"]
        return found

    def curves(self, expression: str, span: tuple[float, float], step: float) -> list[Any]:
        """The range matrix: ``metric`` and ``values`` = [[seconds, text], ...] each."""
        start, end = span
        asked = {"query": expression, "start": start, "end": end, "step": step}
        found: list[Any] = self._ask("query_range", **asked)["result"]
        return found

    def exemplars(self, selector: str, since: float) -> list[dict[str, str]]:
        """The labels of the exemplars of these series, since then."""
        found = self._ask("query_exemplars", query=selector, start=since, end=time.time())
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    def backfill(self, series: dict[str, float], minutes: Iterable[int]) -> None:
        """Before the start: each series at a constant value, at minutes relative to now."""
        now = int(time.time())
        lines = [
            f"{name} {value} {now + minute * 60}"
            for name, value in series.items()
            for minute in minutes
        ]
        history = self.folder / "history.txt"
        history.write_text("\n".join([*lines, "# EOF"]) + "\n")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
        made = subprocess.run(
            [*command, history, self.folder / "data"], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise RuntimeError(made.stderr)

    def _ask(self, what: str, **parameters: Any) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{parameters['query']}: {error.read().decode()}") from error

    def _configure(self) -> None:
        for path in (PROMETHEUS / "rules").glob("*.yml"):
            (self.folder / path.name).write_text(self.haste.rules(path.read_text()))
        document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        quick = ("scrape_interval", "evaluation_interval", "scrape_timeout")
        document["global"] = dict.fromkeys(quick, self.haste.interval)
        document["rule_files"] = [
            str(self.folder / path.name) for path in (PROMETHEUS / "rules").glob("*.yml")
        ]
        document["alerting"] = {}
        document["scrape_configs"] = [
            {"job_name": "isoserve", "static_configs": [{"targets": [self.target]}]}
        ]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(document))

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
