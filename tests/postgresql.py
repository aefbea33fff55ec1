"""Fixture: a PostgreSQL server of our own, that a test may end and start again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTUP_SECONDS = 30


class PostgreSQL:
    """A private cluster on a Unix socket, not run as root because PostgreSQL refuses to."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            owner = pwd.getpwnam(self.user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        options = ["--auth=trust", "--username=isoserve", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", "--pgdata", str(folder / "data"), *options)

    def new_database(self) -> str:
        """The URL of an empty one, as SQLAlchemy and ``--review-database`` take it."""
        self._databases += 1
        name = f"isoserve_{self._databases}"
        self._run("createdb", "--host", str(self.folder), "--username=isoserve", name)
        return f"postgresql+psycopg://isoserve@/{name}?host={self.folder}"

    def start(self) -> None:
        """Returns once it answers."""
        # No fsync: nothing here outlives the machine.
        flags = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *flags],
                stdout=log,
                stderr=log,
                user=self.user,
                cwd=self.folder,
            )
        until = time.monotonic() + STARTUP_SECONDS
        ready = [self.programs / "pg_isready", "--quiet", "--host", self.folder]
        while subprocess.run(ready, check=False).returncode:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash: every connection is cut and nothing is written down."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=STARTUP_SECONDS)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running server; the test is skipped where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'isoserve[dev]'")
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL: install Debian's package postgresql")
    # Not pytest's own folder, which is closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="isoserve-postgresql-"))
    server = PostgreSQL(programs, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The folder of PostgreSQL's own programs; Debian keeps them off the path."""
    found = [Path(name).resolve().parent for name in [shutil.which("initdb")] if name]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parts[4]))
    return next((path for path in found if (path / "postgres").exists()), None)
