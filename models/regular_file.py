"""Reads files that are files: a pipe or a device in a file's place is refused, not waited for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

GIVEN_AS_OPEN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What a shell hands over opened, as of ``<(command)``: its writer is there."""


def read_regular(path: Path, limit: int = -1) -> bytes:
    """The file's bytes, at most ``limit`` of them.

    Raises:
        OSError: it cannot be read, or is a pipe, a socket or a device.
    """
    if str(path).startswith(GIVEN_AS_OPEN):
        with path.open("rb") as file:
            return file.read(limit)
    # Without O_NONBLOCK to open a pipe would already wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))
        return file.read(limit)
