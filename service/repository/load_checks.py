"""Model files tried in processes of their own, within a time, while the caller goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import weakref
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from isoserve.service.repository.load_request import LoadReply, LoadRequest
from isoserve.service.repository.model_files import Fingerprint
from isoserve.service.repository.process_stat import processor_seconds

MOST_PROCESSES = 3
"""At a time: while one is busy with a model that does not end, others are tried."""

IDLE_SECONDS = 10.0
"""A process that waits for the next file longer than this is ended: it holds some 80 MB."""

WAITS = 5
"""Times ``load_seconds`` by the clock: then a model is refused that has not had the processor
for so long. It waits for something, or the machine has no time for it."""

CHUNK = 65_536

_REPLY = TypeAdapter(LoadReply)

Key = tuple[Path, Fingerprint | None]
"""A file as it was."""


class LoadChecks:
    """Asked again and again for a file until there is a reply; used by one thread at a time.

    Args:
        seconds: how long loading and warming up may take, of the processor's time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle: list[_Process] = []
        self._busy: dict[Key, _Process] = {}
        weakref.finalize(self, _kill, self._idle, self._busy)

    def reply(self, key: Key, request: LoadRequest) -> LoadReply | None:
        """What came of trying this file; None while it is not known yet."""
        process = self._busy.get(key)
        if process is None:
            if len(self._busy) < MOST_PROCESSES:
                process = self._idle.pop() if self._idle else _Process()
                process.ask(request)
                self._busy[key] = process
            return None
        reply = process.reply()
        if reply is None and process.has_taken(self._seconds):
            reply = LoadReply(
                reason="load_seconds",
                detail=f"loading and warming it up took more than load_seconds ({self._seconds:g})",
            )
            process.kill()
        if reply is None:
            return None
        del self._busy[key]
        if process.alive:
            process.since = time.monotonic()
            self._idle.append(process)
        return reply

    def tidy(self, wanted: set[Key]) -> None:
        """End what tries files that nobody asks for any more, and what has been idle."""
        for key in [key for key in self._busy if key not in wanted]:
            self._busy.pop(key).kill()
        now = time.monotonic()
        for process in [each for each in self._idle if now - each.since > IDLE_SECONDS]:
            self._idle.remove(process)
            process.kill()

    def close(self) -> None:
        """End all processes."""
        _kill(self._idle, self._busy)


def _kill(idle: list[_Process], busy: dict[Key, _Process]) -> None:
    for process in (*idle, *busy.values()):
        process.kill()
    idle.clear()
    busy.clear()


class _Process:
    """One ``load_check``; ``since`` when it began what it does, in seconds."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "isoserve.service.repository.load_check"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "ORT_DISABLE_TELEMETRY": "1"},
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._received = b""
        self._worked_before = 0.0
        self.since = time.monotonic()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: LoadRequest) -> None:
        assert self._process.stdin is not None
        self.since = time.monotonic()
        self._worked_before = processor_seconds(self._process.pid) or 0.0
        try:
            self._process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and has no reply

    def has_taken(self, seconds: float) -> bool:
        """Whether the file has taken so much of the processor, or many times as long without it.

        By the clock alone a machine that is busy with other things would refuse good models.
        """
        passed = time.monotonic() - self.since
        if passed <= seconds:
            return False
        worked = processor_seconds(self._process.pid)
        return worked is None or worked - self._worked_before > seconds or passed > WAITS * seconds

    def reply(self) -> LoadReply | None:
        """Its reply; None while there is none."""
        assert self._process.stdout is not None
        try:
            chunk = os.read(self._process.stdout.fileno(), CHUNK)
        except BlockingIOError:
            return None
        self._received += chunk
        if self._received.endswith(b"\n"):
            line, self._received = self._received, b""
            return _REPLY.validate_json(line)
        if chunk:
            return None
        code = self._process.wait()
        self.kill()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return LoadReply(reason="failed", detail=f"the process that tried it ended with {how}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
