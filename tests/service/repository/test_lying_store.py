"""A store that says one thing and sends another: nothing of it is taken, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from image_bytes import colour
from lying_store import Answer, LyingStore, lying_store
from running_server import ROOT
from tiny_model import write_tiny_model

pytest.importorskip("moto")
pytest.importorskip("s3fs")
parquet = pytest.importorskip("pyarrow.parquet")
from s3_server import S3Server  # noqa: E402

KEY = "repository/tiny/1/model.onnx"


@dataclass
class Kept:
    """A model and images in the store, and what is in its way."""

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
    for index in range(4):
        real.put(f"images/{index}.png", colour(index, 0, 0))
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


def test_images_that_a_store_lists_and_lacks_are_rows_and_those_it_fails_on_are_tried_again(
    kept: Kept, tmp_path: Path
) -> None:
    def lie(method: str, path: str, answer: Answer) -> None:
        if method in ("GET", "HEAD") and path.endswith("1.png"):
            refused(answer)
        if method in ("GET", "HEAD") and path.endswith("3.png"):
            storm(answer)

    kept.store.lie = lie
    model = tmp_path / "model.onnx"
    model.write_bytes(kept.model)
    options = ["--model", model, "--output", tmp_path / "out", "--unit-images", 2]
    words = ["score", "s3://models/images", *options, "--workers", 1]
    done = kept.run(*words)
    assert done.returncode == 1, done.stderr
    assert "unit 1 (2.png ...) failed twice" in done.stderr
    assert errors_of(tmp_path / "out") == {"0.png": None, "1.png": "unreadable"}
    (failed,) = json.loads((tmp_path / "out" / "_failed.json").read_text())
    assert failed["unit"]["sources"] == ["s3://models/images/2.png", "s3://models/images/3.png"]
    kept.store.lie = lambda *_: None
    assert kept.run(*words).returncode == 0
    assert errors_of(tmp_path / "out") == {
        "0.png": None,
        "1.png": "unreadable",
        "2.png": None,
        "3.png": None,
    }


def errors_of(output: Path) -> dict[str, str | None]:
    rows = [
        row
        for file in sorted(output.glob("part-*.parquet"))
        for row in parquet.read_table(file).to_pylist()
    ]
    return {Path(row["id"]).name: row["error"] for row in rows}
