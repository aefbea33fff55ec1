"""Builds the image, runs it shut in, brings the compose file up, lets an alert fire and resolve.

    python3 deploy/test_container.py [--work FOLDER] [--models FOLDER] [--base-image IMAGE] [--keep]
                                     [--gpu] [--record FILE]

For machines without a Docker engine, with Debian's buildah, podman, runc, netavark, aardvark-dns,
mmdebstrap, prometheus and prometheus-alertmanager, and podman-compose from pip. Needs root. Where
no base image is given, one is made of Debian's packages; Prometheus and Alertmanager are Debian's,
under the names and versions that the compose file asks for; Grafana is left out. Rules run as they
are, except that windows and holds are shortened, and scrapes hastened, so that an alert comes and
goes within minutes. What was measured is written to FILE, as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from container_images import (
    IMAGE,
    build,
    build_for_gpu,
    containers_in,
    run,
    stand_in,
    stand_in_base,
)

log = logging.getLogger("test_container")

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE = "isoserve-test"
ALERT = "IsoserveRejectionShareHigh"
HASTE = {"[5m]": "[20s]", "[30m]": "[40s]"}
FOREIGN_SECONDS = 60
HOLD = "6s"
INTERVAL = "2s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/isoserve-container"))
    parser.add_argument("--models", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--base-image", default="")
    parser.add_argument("--record", type=Path, help="file for what was measured")
    parser.add_argument("--gpu", action="store_true", help="build its image too: 3 GB")
    parser.add_argument("--keep", action="store_true", help="keep the images for the next run")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    absent = [
        name for name in ("buildah", "podman", "runc", "mmdebstrap") if not shutil.which(name)
    ]
    if absent or not any(given.models.glob("*/*/model.onnx")):
        raise SystemExit(f"absent: {absent or given.models / 'NAME/VERSION/model.onnx'}")
    given.work.mkdir(parents=True, exist_ok=True)
    containers_in(given.work)
    context = source_tree(given.work, given.models)
    base = given.base_image or stand_in_base(given.work)
    command = "sudo python3 deploy/test_container.py" + " --gpu" * given.gpu
    found: dict[str, Any] = {"command": command, "base_image": base}
    try:
        found["image"] = step("image", lambda: build(context, base))
        found["shut_in"] = step("shut in", check_alone)
        found["alert"] = step("compose", lambda: check_compose(context, base))
        if given.gpu:
            found["gpu_image"] = step("GPU image", lambda: build_for_gpu(context, base))
        if given.record:
            given.record.write_text(json.dumps(found, indent=2) + "\n")
    finally:
        if not given.keep:
            run("podman", "system", "reset", "--force", check=False)
            shutil.rmtree(given.work)


def step(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.monotonic()
    found = work()
    log.info("%s in %.0f s: %s", name, time.monotonic() - started, json.dumps(found))
    return found


def source_tree(work: Path, models: Path) -> Path:
    """A copy of what the image and the compose file are made of, with the given models."""
    context = work / "context"
    shutil.rmtree(context, ignore_errors=True)
    for name in run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard").splitlines():
        if not name.startswith("model_repository/"):
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, context / name)
    shutil.copytree(models, context / "model_repository")
    for rules in (context / "deploy" / "prometheus" / "rules").glob("*.yml"):
        text = rules.read_text()
        for slow, quick in HASTE.items():
            text = text.replace(slow, quick)
        text = re.sub(r"\bfor: \w+", f"for: {HOLD}", text)
        rules.write_text(re.sub(r"interval: \w+", f"interval: {INTERVAL}", text))
    prometheus = context / "deploy" / "prometheus" / "prometheus.yml"
    prometheus.write_text(
        re.sub(r"(interval|timeout): \w+", rf"\1: {INTERVAL}", prometheus.read_text())
    )
    alertmanager = context / "deploy" / "alertmanager" / "alertmanager.yml"
    alertmanager.write_text(re.sub(r"group_(\w+): \w+", r"group_\1: 1s", alertmanager.read_text()))
    return context


def check_alone() -> dict[str, Any]:
    """The container as compose and Kubernetes run it: nobody, read-only, no capability."""
    options = [
        *("--network", "none", "--read-only", "--tmpfs", "/tmp:size=64m", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--memory", "1g", "--pids-limit", "256"),
    ]
    began = time.monotonic()
    name = run("podman", "run", "--detach", *options, IMAGE)
    try:
        wait_for(lambda: healthy(name), 60, lambda: run("podman", "logs", name, check=False))
        ready = time.monotonic() - began
        status = run("podman", "exec", name, "cat", "/proc/1/status")
        facts = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
        assert facts["Uid"] == "10001", facts["Uid"]
        assert int(facts["CapEff"], 16) == 0, facts["CapEff"]
        assert facts["NoNewPrivs"] == "1"
        for path in ("/opt/isoserve/x", "/models/x", "/x"):
            written = subprocess.run(["podman", "exec", name, "touch", path], capture_output=True)
            assert written.returncode, f"{path} could be written"
        run("podman", "stop", "--time", "30", name)
        code = run("podman", "inspect", "--format", "{{.State.ExitCode}}", name)
        assert code == "0", f"exit code {code} after SIGTERM"
    finally:
        run("podman", "rm", "--force", name, check=False)
    return {
        "healthy_after_s": round(ready, 1),
        "user": int(facts["Uid"]),
        "capabilities": facts["CapEff"],
        "exit_code_after_sigterm": int(code),
    }


def healthy(name: str) -> bool:
    return not subprocess.run(
        ["podman", "healthcheck", "run", name], capture_output=True
    ).returncode


def check_compose(context: Path, base: str) -> dict[str, Any]:
    wanted = re.findall(r"image: (prom/\S+)", (context / "docker-compose.yml").read_text())
    for image in wanted:
        stand_in(f"docker.io/{image}", base)
    with network_namespace() as inside:
        compose = [*inside, shutil.which("podman-compose") or "podman-compose", "--in-pod", "false"]
        services = ["isoserve", "alertmanager", "prometheus"]
        run(*compose, "up", "--detach", "--no-build", *services, cwd=context)
        try:
            return watch_an_alert(inside, compose, context)
        finally:
            run(*compose, "down", "--volumes", cwd=context, check=False)


def watch_an_alert(inside: list[str], compose: list[str], context: Path) -> dict[str, Any]:
    def ask(url: str) -> Any:
        return json.loads(run(*inside, "wget", "-q", "-O", "-", url, check=False) or "null")

    def is_up() -> bool:
        found = ask("http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22isoserve%22%7D")
        return bool(found) and [s["value"][1] for s in found["data"]["result"]] == ["1"]

    def fires() -> bool:
        alerts = ask("http://127.0.0.1:9093/api/v2/alerts") or []
        return ALERT in {a["labels"]["alertname"] for a in alerts}

    def said() -> str:
        return run(*compose, "logs", cwd=context, check=False)

    wait_for(is_up, 120, said)
    for name in run("podman", "ps", "--format", "{{.Names}}").split():
        wait_for(lambda name=name: healthy(name), 60, said)  # type: ignore[misc]
    service = run("podman", "ps", "--quiet", "--filter", "name=_isoserve_")
    arguments = ["--phases", "foreign", "--rate", "40", "--rounds", "1"]
    arguments += ["--seconds", str(FOREIGN_SECONDS)]
    began = time.monotonic()
    with (context / "deploy" / "traffic.py").open() as script:
        sender = subprocess.Popen(
            ["podman", "exec", "--interactive", service, "python", "-", *arguments], stdin=script
        )
    wait_for(fires, 60, said)
    fired = time.monotonic() - began
    assert sender.wait() == 0
    ended = time.monotonic()
    wait_for(lambda: not fires(), 300, said)
    gone = time.monotonic() - ended
    return {
        "name": ALERT,
        "foreign_images_s": FOREIGN_SECONDS,
        "hastened": {**HASTE, "for": HOLD, "interval": INTERVAL},
        "fires_after_s": round(fired, 1),
        "resolved_after_s": round(gone, 1),
    }


@contextmanager
def network_namespace() -> Iterator[list[str]]:
    """A network of our own: bridges and ports of the containers stay in it."""
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "netns", "exec", NAMESPACE, "ip", "link", "set", "lo", "up")
        yield ["nsenter", f"--net=/run/netns/{NAMESPACE}"]
    finally:
        run("ip", "netns", "delete", NAMESPACE)


def wait_for(condition: Callable[[], bool], seconds: float, said: Callable[[], str]) -> None:
    """Poll until the condition holds; fails with what the containers said."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"not within {seconds:g} s\n{said()[-4000:]}")
        time.sleep(1)


if __name__ == "__main__":
    main()
