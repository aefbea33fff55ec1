"""A command with all that it starts: what processor time they take together, and who they are."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from isoserve.service.repository.process_stat import TICKS_A_SECOND, stat_fields

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_SECONDS = 0.1


def adopt_orphans() -> None:
    """From now on what a dead process leaves behind becomes this one's child."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


@dataclass
class Finished:
    """What came of a command."""

    exit_code: int
    error: str
    cpu_by_name: dict[str, float]
    """User and system time of every process, to within :data:`SAMPLE_SECONDS` of each one's end."""
    wall_seconds: float

    @property
    def cpu_seconds(self) -> float:
        """Of all processes."""
        return sum(self.cpu_by_name.values())


@dataclass
class Family:
    """The descendants of this process, sampled."""

    cpu: dict[tuple[int, str], float] = field(default_factory=dict)
    """Process and when it began, since numbers are given again -> seconds, as last seen."""
    names: dict[tuple[int, str], str] = field(default_factory=dict)

    def sample(self) -> dict[int, str]:
        """Process -> command line, of those that live."""
        parents: dict[int, int] = {}
        began: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            fields = stat_fields(pid)
            if fields is None:
                continue
            parents[pid], began[pid] = int(fields[1]), fields[19]
            if (pid, fields[19]) in self.cpu or self._is_ours(pid, parents):
                self.cpu[pid, fields[19]] = sum(map(int, fields[11:13])) / TICKS_A_SECOND
        ours = [pid for pid in parents if self._is_ours(pid, parents)]
        lines = {pid: _command_line(pid) for pid in ours}
        self.names |= {(pid, began[pid]): _name(line) for pid, line in lines.items() if line}
        return lines

    def seconds_by_name(self) -> dict[str, float]:
        """Name of a program -> processor seconds of all its processes, the largest first."""
        total: dict[str, float] = {}
        for process, seconds in self.cpu.items():
            name = self.names.get(process, "?")
            total[name] = total.get(name, 0.0) + seconds
        return dict(sorted(total.items(), key=lambda item: -item[1]))

    @staticmethod
    def _is_ours(pid: int, parents: dict[int, int]) -> bool:
        me = os.getpid()
        while pid > 1:
            pid = parents.get(pid) or _parent(pid)
            if pid == me:
                return True
        return False

    def end(self) -> None:
        """Kill what still lives."""
        while living := [pid for pid, words in self.sample().items() if words]:
            for pid in living:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            _reap()
            time.sleep(SAMPLE_SECONDS)


Watch = Callable[[dict[int, str], int], None]


def run(arguments: list[str], watch: Watch | None = None) -> Finished:
    """Run ``python ARGUMENTS`` to its end, and end what it leaves behind.

    Args:
        watch: told, at each sample, the processes that live and the command's own.
    """
    family = Family()
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None:
        living = family.sample()
        if watch is not None:
            watch(living, process.pid)
        time.sleep(SAMPLE_SECONDS)
    wall = time.monotonic() - began
    family.sample()
    family.end()
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    return Finished(process.returncode, error, family.seconds_by_name(), wall)


def _parent(pid: int) -> int:
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _name(command_line: str) -> str:
    """``ray::_Scorer`` of its actors, else the program, and of Python what it runs."""
    words = command_line.split()
    if words[0].startswith("ray::"):
        return words[0].partition(".")[0]
    names = [Path(word).name for word in words if not word.startswith("-")]
    is_python = names[0].startswith("python") and len(names) > 1
    return names[1][:40] if is_python else names[0]


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
