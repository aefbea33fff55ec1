"""The limit of open files, in processes of their own: it cannot be raised again once lowered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import resource, sys
from isoserve.service.http.file_limits import raise_file_limit
soft, hard, wanted, grpc = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raise_file_limit(wanted, grpc=bool(grpc)), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "grpc", "room", "raised"),
    [
        (100, 2000, 1000, 0, 1000, 1256),
        (2000, 2000, 1000, 0, 1000, 2000),
        (100, 1000, 1000, 0, 744, 1000),
        (100, 100, 1000, 0, 50, 100),
        # A quarter is gRPC's, of three descriptors each.
        (100, 2000, 1000, 1, 1000, 1756),
        (100, 1000, 1000, 1, 496, 1000),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(
    soft: int, hard: int, wanted: int, grpc: int, room: int, raised: int
) -> None:
    command = [sys.executable, "-c", SCRIPT, *map(str, (soft, hard, wanted, grpc))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [int(word) for word in done.stdout.split()] == [room, raised, hard]
    assert (f"at most {room} connections" in done.stderr) == (room < wanted)
