"""Builds the image, runs it shut in, brings the compose file up, lets an alert fire and resolve.

    python3 deploy/test_container.py [--work FOLDER] [--models FOLDER] [--base-image IMAGE] [--keep]

For machines without a Docker engine, with Debian's buildah, podman, runc, netavark, aardvark-dns,
mmdebstrap, prometheus and prometheus-alertmanager, and podman-compose from pip. Needs root. Where
no base image is given, one is made of Debian's packages; Prometheus and Alertmanager are Debian's,
under the names and versions that the compose file asks for; Grafana is left out. Rules run as they
are, except that windows and holds are shortened, and scrapes hastened, so that an alert comes and
goes within minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger("test_container")

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "localhost/isoserve:0.1.0"
NAMESPACE = "isoserve-test"
MOST_MEGABYTES = 350
SLIM_MEGABYTES = 130
"""python:3.11-slim-bookworm unpacked; the stand-in base is larger, so the difference counts."""
STAND_INS = {
    "docker.io/prom/prometheus": ("prometheus", "prometheus"),
    "docker.io/prom/alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
}
HASTE = [
    (r"\[5m\]", "[20s]"),
    (r"\[30m\]", "[40s]"),
    (r"for: \w+", "for: 6s"),
    (r"interval: \w+", "interval: 2s"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/isoserve-container"))
    parser.add_argument("--models", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--base-image", default="")
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
    try:
        step("image", lambda: build(context, base))
        step("shut in", check_alone)
        step("compose", lambda: check_compose(context, base))
    finally:
        if not given.keep:
            run("podman", "system", "reset", "--force", check=False)
            shutil.rmtree(given.work)


def step(name: str, work: Callable[[], str]) -> None:
    started = time.monotonic()
    found = work()
    log.info("%s: %s (%.0f s)", name, found, time.monotonic() - started)


def run(*command: str | Path, check: bool = True, **options: Any) -> str:
    """Standard output of a command; what it said on both streams if it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def containers_in(work: Path) -> None:
    """Storage of our own, without a driver that needs a kernel's help; runc for limits."""
    storage, settings = work / "storage.conf", work / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/graph"\nrunroot = "{work}/run"\n'
    )
    settings.write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        '[network]\nnetwork_backend = "netavark"\n'
    )
    os.environ |= {
        "CONTAINERS_STORAGE_CONF": str(storage),
        "CONTAINERS_CONF": str(settings),
        "BUILDAH_ISOLATION": "chroot",
    }


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
        for slow, quick in HASTE:
            text = re.sub(slow, quick, text)
        rules.write_text(text)
    prometheus = context / "deploy" / "prometheus" / "prometheus.yml"
    prometheus.write_text(re.sub(r"(interval|timeout): \w+", r"\1: 2s", prometheus.read_text()))
    alertmanager = context / "deploy" / "alertmanager" / "alertmanager.yml"
    alertmanager.write_text(re.sub(r"group_(\w+): \w+", r"group_\1: 1s", alertmanager.read_text()))
    return context


def stand_in_base(work: Path) -> str:
    """Debian's own Python, in the place of python:3.11-slim-bookworm."""
    name = "localhost/python-stand-in:3.11"
    if run("buildah", "images", "--quiet", name, check=False):
        return name
    packages = "python3,python3-venv,python3-pip,ca-certificates,wget"
    run("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", work / "base.tar")
    made = run("buildah", "from", "scratch")
    run("buildah", "add", made, work / "base.tar", "/")
    run("buildah", "run", made, "sh", "-c", "rm -f /usr/lib/python3*/EXTERNALLY-MANAGED")
    run("buildah", "run", made, "ln", "-s", "python3", "/usr/bin/python")
    run("buildah", "commit", "--rm", made, name)
    return name


def build(context: Path, base: str) -> str:
    options = ["--pull-never", "--format", "docker", "--build-arg", f"BASE_IMAGE={base}"]
    # A machine behind a proxy of its own certificate hands both on to pip.
    if bundle := os.environ.get("PIP_CERT"):
        options += ["--env", f"PIP_CERT={bundle}", "--volume", f"{bundle}:{bundle}:ro"]
    run("buildah", "bud", *options, "--target", "cpu", "--tag", IMAGE, context)
    sizes = [
        int(run("podman", "image", "inspect", "--format", "{{.Size}}", n)) for n in (IMAGE, base)
    ]
    added = (sizes[0] - sizes[1]) / 1e6
    assert added + SLIM_MEGABYTES < MOST_MEGABYTES, f"{added:.0f} MB on top of the base"
    torch = ["/opt/isoserve", "-type", "d", "-name", "torch"]
    held = run("podman", "run", "--rm", "--network=none", "--entrypoint", "find", IMAGE, *torch)
    assert not held, held
    return f"{added:.0f} MB on top of the base, {added + SLIM_MEGABYTES:.0f} MB on slim"


def check_alone() -> str:
    """The container as compose and Kubernetes run it: nobody, read-only, no capability."""
    options = [
        *("--network", "none", "--read-only", "--tmpfs", "/tmp:size=64m", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--memory", "1g", "--pids-limit", "256"),
    ]
    name = run("podman", "run", "--detach", *options, IMAGE)
    try:
        wait_for(lambda: healthy(name), 60, lambda: run("podman", "logs", name, check=False))
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
    return "healthy, user 10001, no capability, nothing written, SIGTERM ends it with 0"


def healthy(name: str) -> bool:
    return not subprocess.run(
        ["podman", "healthcheck", "run", name], capture_output=True
    ).returncode


def check_compose(context: Path, base: str) -> str:
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


def watch_an_alert(inside: list[str], compose: list[str], context: Path) -> str:
    def ask(url: str) -> Any:
        return json.loads(run(*inside, "wget", "-q", "-O", "-", url, check=False) or "null")

    def is_up() -> bool:
        found = ask("http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22isoserve%22%7D")
        return bool(found) and [s["value"][1] for s in found["data"]["result"]] == ["1"]

    def fires() -> bool:
        alerts = ask("http://127.0.0.1:9093/api/v2/alerts") or []
        return "IsoserveRejectionShareHigh" in {a["labels"]["alertname"] for a in alerts}

    def said() -> str:
        return run(*compose, "logs", cwd=context, check=False)

    wait_for(is_up, 120, said)
    for name in run("podman", "ps", "--format", "{{.Names}}").split():
        wait_for(lambda name=name: healthy(name), 60, said)  # type: ignore[misc]
    service = run("podman", "ps", "--quiet", "--filter", "name=_isoserve_")
    arguments = ["--phases", "foreign", "--rate", "40", "--seconds", "60", "--rounds", "1"]
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
    return f"all healthy; an alert {fired:.0f} s into foreign images, none {gone:.0f} s after them"


def stand_in(image: str, base: str) -> None:
    """Debian's package of a program, on our base, under the image's name."""
    package, program = STAND_INS[image.split(":")[0]]
    if run("buildah", "images", "--quiet", image, check=False):
        return
    made = run("buildah", "from", "--pull-never", base)
    run("buildah", "copy", made, shutil.which(program) or program, "/bin/")
    # Debian's Alertmanager reads its message templates from there.
    if (shared := Path("/usr/share/prometheus") / package.removeprefix("prometheus-")).exists():
        run("buildah", "copy", made, shared, shared)
    run("buildah", "config", "--entrypoint", f'["/bin/{program}"]', made)
    run("buildah", "run", made, "mkdir", "/prometheus", "/alertmanager")
    run("buildah", "run", made, "chown", "65534:65534", "/prometheus", "/alertmanager")
    run("buildah", "commit", "--rm", made, image)
    log.info("%s stands in for %s", package, image)


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
