"""Images made by buildah, and what stands in for those that cannot be pulled."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

log = logging.getLogger("test_container")

IMAGE = "localhost/isoserve:0.1.0"
MOST_MEGABYTES = 350
SLIM_MEGABYTES = 130
"""python:3.11-slim-bookworm unpacked; the stand-in base is larger, so the difference counts."""
STAND_INS = {
    "docker.io/prom/prometheus": ("prometheus", "prometheus"),
    "docker.io/prom/alertmanager": ("prometheus-alertmanager", "prometheus-alertmanager"),
}


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


def build(context: Path, base: str) -> dict[str, Any]:
    """The image for the processor; raises where it is too large or holds torch."""
    added, of_base = build_target(context, base, "cpu", IMAGE)
    assert added + SLIM_MEGABYTES < MOST_MEGABYTES, f"{added:.0f} MB on top of the base"
    torch = ["/opt/isoserve", "-type", "d", "-name", "torch"]
    held = run("podman", "run", "--rm", "--network=none", "--entrypoint", "find", IMAGE, *torch)
    assert not held, held
    return {
        "on_top_of_base_mb": round(added, 1),
        "base_mb": round(of_base, 1),
        "on_slim_mb": round(added + SLIM_MEGABYTES, 1),
        "largest_packages_mb": largest_packages(),
    }


def build_for_gpu(context: Path, base: str) -> dict[str, Any]:
    """The image for CUDA; raises where the provider lacks a library other than the driver's."""
    image = f"{IMAGE}-gpu"
    added, _ = build_target(context, base, "gpu", image)
    provider = "/opt/isoserve/lib/python3.11/site-packages/onnxruntime/capi"
    program = ["--entrypoint", "ldd", image, f"{provider}/libonnxruntime_providers_cuda.so"]
    said = run("podman", "run", "--rm", "--network=none", *program)
    absent = [line.split()[0] for line in said.splitlines() if "not found" in line]
    assert absent == ["libcuda.so.1"], said
    return {"on_top_of_base_mb": round(added, 1), "libraries_left_to_the_machine": absent}


def build_target(context: Path, base: str, target: str, image: str) -> tuple[float, float]:
    """Builds one target; megabytes of what it adds, and of the base."""
    options = ["--pull-never", "--format", "docker", "--build-arg", f"BASE_IMAGE={base}"]
    # A machine behind a proxy of its own certificate hands both on to pip.
    if bundle := os.environ.get("PIP_CERT"):
        options += ["--env", f"PIP_CERT={bundle}", "--volume", f"{bundle}:{bundle}:ro"]
    run("buildah", "bud", *options, "--target", target, "--tag", image, context)
    sizes = [
        int(run("podman", "image", "inspect", "--format", "{{.Size}}", n)) for n in (image, base)
    ]
    return (sizes[0] - sizes[1]) / 1e6, sizes[1] / 1e6


def largest_packages() -> dict[str, float]:
    """Folders of packages in the image that take 5 MB or more."""
    sizes = "du -sk /opt/isoserve/lib/python3*/site-packages/*"
    options = ["--rm", "--network=none", "--entrypoint", "sh"]
    lines = run("podman", "run", *options, IMAGE, "-c", sizes).splitlines()
    found = {Path(path).name: int(size) * 1024 / 1e6 for size, path in map(str.split, lines)}
    largest = sorted(found.items(), key=lambda pair: -pair[1])
    return {name: round(size, 1) for name, size in largest if size >= 5}


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
