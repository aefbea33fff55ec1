"""The writer of the log: lines whole, in order, and never waited for."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from isoserve.service.observability.log_writer import MOST_LINES, LogWriter, about, in_request


@pytest.fixture(name="pipe")
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        try:
            os.close(end)
        except OSError:
            continue


def until_closed(read: int) -> bytes:
    received = b""
    while chunk := os.read(read, 65536):
        received += chunk
    return received


def event(message: str, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "isoserve.x", "levelname": "ERROR", "levelno": 40})
    record.msg = message
    record.__dict__.update(extra)
    return record


def written(pipe: tuple[int, int], log_format: str, *records: logging.LogRecord) -> list[str]:
    read, write = pipe
    writer = LogWriter(log_format, write)  # type: ignore[arg-type]
    for record in records:
        writer.handle(record)
    writer.close()
    os.close(write)
    return until_closed(read).decode().splitlines()


def test_an_event_in_json_names_its_request_and_keeps_its_traceback_in_one_line(
    pipe: tuple[int, int],
) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        failed = event("a request failed", exc_info=sys.exc_info(), **about("abc"))
    first, second = map(
        json.loads, written(pipe, "json", failed, event("\udcff", **about("a", "b")))
    )
    assert first["id"] == "abc"
    assert (first["level"], first["logger"], first["message"]) == (
        "error",
        "isoserve.x",
        "a request failed",
    )
    assert first["time"].endswith("Z")
    assert "ValueError: broken" in first["exception"]
    assert second["ids"] == ["a", "b"]
    assert second["message"] == "\\udcff"


def test_an_event_in_text_names_its_request_before_the_traceback(pipe: tuple[int, int]) -> None:
    assert written(pipe, "text", event("it failed", **about("a", "b"))) == [
        "ERROR isoserve.x: it failed (request a, b)"
    ]


def test_an_event_of_a_context_that_works_for_a_request_names_it(pipe: tuple[int, int]) -> None:
    token = in_request.set("abc")
    try:
        (line,) = written(pipe, "text", event("the database fails"))
    finally:
        in_request.reset(token)
    assert line.endswith("(request abc)")


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writer = LogWriter("text", write)
    dropped: list[int] = []
    writer.count_dropped = dropped.append
    offered = 2 * MOST_LINES
    for number in range(offered):
        writer.offer(lambda content: b"%05d" % content + b"x" * 94 + b"\n", number)
    assert dropped  # the pipe holds 64 KB, and offering went on
    kept = offered - sum(dropped)
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(until_closed(read).splitlines()))
    reader.start()
    writer.close()
    os.close(write)
    reader.join(20)
    assert len(lines) == kept
    assert all(len(line) == 99 for line in lines)
    numbers = [int(line[:5]) for line in lines]
    assert numbers == sorted(numbers)


def test_lines_are_dropped_and_counted_where_nobody_can_read_them(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    writer = LogWriter("text", write)
    dropped: list[int] = []
    writer.count_dropped = dropped.append
    writer.offer(str.encode, "a line\n")
    writer.close()
    assert sum(dropped) == 1


def test_two_writers_on_one_pipe_do_not_tear_each_others_lines(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writers = [LogWriter("text", write, shared=True) for _ in range(2)]
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda: lines.extend(until_closed(read).splitlines()))

    def write_many(writer: LogWriter, letter: bytes) -> None:
        for _ in range(3_000):
            writer.offer(lambda content: content * 300 + b"\n", letter)
        writer.close()

    threads = [
        threading.Thread(target=write_many, args=each)
        for each in zip(writers, (b"a", b"b"), strict=True)
    ]
    for thread in [*threads, reader]:
        thread.start()
    for thread in threads:
        thread.join(20)
    os.close(write)
    reader.join(20)
    assert len(lines) == 6_000
    assert set(lines) == {b"a" * 300, b"b" * 300}


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.set_blocking(write, False)
    writer = LogWriter("text", write)
    for _ in range(3_000):
        writer.offer(str.encode, "x" * 99 + "\n")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(until_closed(read)))
    reader.start()
    writer.close()
    os.close(write)
    reader.join(20)
    assert received[0] == (b"x" * 99 + b"\n") * 3_000


def test_a_line_that_cannot_be_composed_costs_no_other(pipe: tuple[int, int]) -> None:
    read, write = pipe
    writer = LogWriter("text", write)

    def fail(content: str) -> bytes:
        raise RuntimeError(content)

    for compose in (fail, str.encode, fail, str.encode):
        writer.offer(compose, "a line\n")
    writer.close()
    os.close(write)
    assert until_closed(read) == b"a line\na line\n"
