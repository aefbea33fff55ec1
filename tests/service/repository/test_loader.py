"""Files tried in a process, once for all that serve them, and how long that may take."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from isoserve.service.repository import load_checks
from isoserve.service.repository.load_checks import LoadChecks
from isoserve.service.repository.load_request import LoadReply, LoadRequest
from isoserve.service.repository.loader import ModelLoader
from isoserve.service.settings import Settings


def wait_for(loader: ModelLoader, path: Path) -> LoadReply:
    deadline = time.monotonic() + 120
    while (reply := loader.tried(path)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return reply


def test_what_one_process_has_tried_another_loads_without_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    write_tiny_model(good)
    bad.write_bytes(b"no model")
    settings = Settings(repository=tmp_path)
    first = ModelLoader(settings)
    for path in (good, bad):
        first.tried(path)
    replies = first.good_replies(120)
    assert wait_for(first, bad).reason
    first.close()
    assert [path for path, _ in replies] == [good]

    def never(*_: object) -> None:
        raise AssertionError("it was tried again")

    second = ModelLoader(settings, replies)
    monkeypatch.setattr(LoadChecks, "reply", never)
    assert second.tried(good) is not None
    assert second.load("m", 1, good, 1).card.name == "tiny"
    with pytest.raises(AssertionError, match="tried again"):
        second.tried(good)  # asked for once more, it is tried once more
    second.close()


@pytest.mark.parametrize(("worked", "is_refused"), [(0.0, False), (0.2, True)])
def test_the_time_of_a_load_is_the_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worked: float, is_refused: bool
) -> None:
    seconds = iter([1.0])  # the process had used so much before it was asked
    monkeypatch.setattr(load_checks, "processor_seconds", lambda _: next(seconds, 1.0 + worked))
    monkeypatch.setattr(load_checks._Process, "reply", lambda _: None)
    monkeypatch.setattr(load_checks, "WAITS", 10_000)
    checks, key = LoadChecks(0.1), (tmp_path, None)
    request = LoadRequest(str(tmp_path), 1, "cpu", "onnxruntime", "auto", 1, 2**26)
    assert checks.reply(key, request) is None
    time.sleep(0.15)
    reply = checks.reply(key, request)
    assert (reply is not None and reply.reason == "load_seconds") is is_refused
    monkeypatch.setattr(load_checks, "WAITS", 1)
    assert is_refused or checks.reply(key, request) is not None
    checks.close()
