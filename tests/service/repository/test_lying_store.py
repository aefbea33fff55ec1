"""A store that says one thing and sends another: nothing of it is taken, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lying_store import Answer, LyingStore, lying_store
from running_server import ROOT
from tiny_model import write_tiny_model

pytest.importorskip("moto")
pytest.importorskip("s3fs")
from s3_server import S3Server

KEY = "repository/tiny/1/model.onnx"


@dataclass
class Kept:
    """A model in the store, and what is in its way."""

    store: LyingStore
    environment: dict[str, str]
    model: bytes

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "isoserve", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture(scope="module", name="kept")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    model = write_tiny_model(tmp_path_factory.mktemp("model") / "model.onnx").read_bytes()
    real = S3Server()
    real.put(KEY, model)
    with lying_store(real.url) as store:
        environment = {
            **real.environment,
            "AWS_ENDPOINT_URL": store.url,
            "AWS_MAX_ATTEMPTS": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        }
        yield Kept(store, environment, model)
    real.die()


@pytest.fixture(autouse=True)
def _honest_again(kept: Kept) -> Iterator[None]:
    yield
    kept.store.lie = lambda *_: None


def of_the_model(change: Callable[[Answer], None]) -> Callable[[str, str, Answer], None]:
    def lie(method: str, path: str, answer: Answer) -> None:
        if method == "GET" and path.endswith("model.onnx"):
            change(answer)

    return lie


def cut(answer: Answer) -> None:
    answer.cut = len(answer.body) // 2


def shorter(answer: Answer) -> None:
    answer.body = answer.body[:-100]
    answer.headers.pop("content-range", None)


def longer(answer: Answer) -> None:
    answer.body += bytes(100)
    answer.headers.pop("content-range", None)


def refused(answer: Answer) -> None:
    answer.status, answer.body = 404, b""


def storm(answer: Answer) -> None:
    answer.status, answer.body = 500, b""


@pytest.mark.parametrize("change", [cut, shorter, longer, refused, storm])
def test_what_a_lying_store_sends_is_not_taken(
    kept: Kept, tmp_path: Path, change: Callable[[Answer], None]
) -> None:
    kept.store.lie = of_the_model(change)
    done = kept.run("pull", f"s3://models/{KEY}", tmp_path / "pulled")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "model.onnx" in line
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    kept.store.lie = lambda *_: None
    done = kept.run("pull", f"s3://models/{KEY}", tmp_path / "pulled")
    assert done.returncode == 0, done.stderr
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.read_bytes() == kept.model
