"""How many cores this process may use: its affinity and its cgroup's quota.

ONNX Runtime and ``os.cpu_count`` see the machine's cores, not what a container was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Whole cores, at least 1; of a quota of 2.5 the half is left to the event loop.

    Args:
        root: where ``proc`` and ``sys/fs/cgroup`` are found.
    """
    return max(1, int(min(len(os.sched_getaffinity(0)), cgroup_quota(root))))


def cgroup_quota(root: Path = ROOT) -> float:
    """The smallest CPU quota of the process's cgroup and those above it, in cores; or infinity."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return float("inf")
    quotas = [float("inf")]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += _along(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mounted in (controllers, "cpu"):
                quotas += _along(root / "sys/fs/cgroup" / mounted, path, _quota_v1)
    return min(quotas)


def _along(mount: Path, path: str, quota: Callable[[Path], float]) -> list[float]:
    # Inside a container the mount shows the container's own group at its top, whatever the path.
    folders = [mount]
    for part in Path(path.lstrip("/")).parts:
        folders.append(folders[-1] / part)
    return [quota(folder) for folder in folders]


def _quota_v2(folder: Path) -> float:
    return _ratio(_words(folder / "cpu.max"))


def _quota_v1(folder: Path) -> float:
    return _ratio([*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _ratio(words: list[str]) -> float:
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max", or no such file
        return float("inf")
    return quota / period if quota > 0 < period else float("inf")
