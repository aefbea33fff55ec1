"""What Linux says of a process in ``/proc/PID/stat``."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def stat_fields(pid: int) -> list[str] | None:
    """The fields behind the program's name, which may hold anything: state, parent, ...

    So the first here is the third in the manual, proc_pid_stat(5). None where there is no such
    process, or no such file.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def processor_seconds(pid: int) -> float | None:
    """User and system time of this process so far; None where the system does not say."""
    fields = stat_fields(pid)
    return sum(map(int, fields[11:13])) / TICKS_A_SECOND if fields else None
