"""What the program says of itself on stderr: lines of text, or of JSON.

Lines are written by a thread of their own. A reader of stderr that falls behind, a slow pipe of a
container engine say, costs lines and never the event loop or a slot.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import orjson

from isoserve.service.observability.background_queue import BackgroundQueue, QueueBounds

log = logging.getLogger("isoserve.logs")

T = TypeVar("T")

LogFormat = Literal["text", "json"]

MOST_LINES = 10_000
SPARE_LINES = 1_000
"""Events may still be written where so many lines of requests wait that no more of those may."""

GATHER_SECONDS = 0.2
FLUSH_SECONDS = 2.0

ATOMIC_BYTES = select.PIPE_BUF
"""Several processes may share the pipe: a write of at most this is never torn by another's."""

TEXT = "%(levelname)s %(name)s: %(message)s"


in_request: ContextVar[str] = ContextVar("in_request", default="")
"""The request that this context works for, where it works for one alone."""


class LogWriter(logging.Handler):
    """Writes the events of :mod:`logging`, and lines given to :meth:`offer`, to a descriptor.

    Args:
        shared: whether other processes write to the descriptor too.

    Attributes:
        log_format: of the events, and to be that of the lines.
        count_dropped: called with how many lines were lost.
    """

    def __init__(self, log_format: LogFormat, descriptor: int, shared: bool = False) -> None:
        super().__init__()
        self.log_format = log_format
        self.count_dropped: Callable[[int], object] = lambda _: None
        self._descriptor = descriptor
        self._shared = shared
        self.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter(TEXT))
        self._queue: BackgroundQueue[bytes | tuple[Callable[[Any], bytes], Any]] = BackgroundQueue(
            "log", self._write, QueueBounds(MOST_LINES, gather_seconds=GATHER_SECONDS)
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Queue an event's line."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
        else:
            if not self._queue.put_urgent(line, SPARE_LINES):
                self.count_dropped(1)

    def offer(self, compose: Callable[[T], bytes], content: T) -> None:
        """Queue what ``compose`` makes a line of, newline included, in the writer's thread.

        A line that finds too many waiting is dropped.
        """
        if not self._queue.offer((compose, content)):
            self.count_dropped(1)

    def close(self) -> None:
        """Write what waits; called by :mod:`logging` when the interpreter ends."""
        self._queue.close(FLUSH_SECONDS)
        super().close()

    def _write(self, things: list[bytes | tuple[Callable[[Any], bytes], Any]]) -> None:
        lines: list[bytes] = []
        for each in things:
            try:
                lines.append(each if isinstance(each, bytes) else each[0](each[1]))
            except Exception:  # or no line would be written any more
                log.exception("a line could not be composed")
        # In as few calls as may be: after each, this thread has to get the interpreter back.
        for piece in _atomic(lines) if self._shared else [lines]:
            self._write_whole(piece)

    def _write_whole(self, lines: list[bytes]) -> None:
        left = memoryview(b"".join(lines))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:  # nobody reads any more
                self.count_dropped(len(lines))
                return


def configure_logging(log_format: LogFormat, shared: bool = False) -> LogWriter:
    """Write every event from level INFO on to stderr, which other processes may write to too."""
    writer = LogWriter(log_format, sys.stderr.fileno(), shared)
    logging.basicConfig(level=logging.INFO, handlers=[writer], force=True)
    logging.captureWarnings(True)
    return writer


def _atomic(lines: list[bytes]) -> Iterator[list[bytes]]:
    """The lines in pieces that another process' writes cannot tear."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > ATOMIC_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield piece


def as_line(document: dict[str, Any]) -> bytes:
    """JSON with NumPy's numbers, times without a zone taken as UTC, and a newline."""
    return orjson.dumps(
        document,
        option=orjson.OPT_SERIALIZE_NUMPY
        | orjson.OPT_NAIVE_UTC
        | orjson.OPT_UTC_Z
        | orjson.OPT_APPEND_NEWLINE,
    )


def about(*request_ids: str) -> dict[str, Any]:
    """The ``extra`` of an event that concerns these requests."""
    return {"request_ids": request_ids}


def _request_ids(record: logging.LogRecord) -> tuple[str, ...]:
    given: tuple[str, ...] = getattr(record, "request_ids", ())
    return given or tuple(filter(None, [in_request.get()]))


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        ids = _request_ids(record)
        ids_shown = f" (request {', '.join(ids)})" if ids else ""
        return super().formatMessage(record) + ids_shown


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        request_ids = _request_ids(record)
        if len(request_ids) == 1:
            document["id"] = request_ids[0]
        elif request_ids:
            document["ids"] = request_ids
        if record.exc_info:
            document["exception"] = _encodable(self.formatException(record.exc_info))
        return str(as_line(document)[:-1], "utf-8")


def _encodable(text: str) -> str:
    """Names of files may hold bytes that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()
