"""Models from where they are kept: a real S3 server, a real HTTP server, the cache between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from signing_key import write_key
from tiny_model import TinyModel, tiny_model

pytest.importorskip("s3fs")
pytest.importorskip("moto")

from s3_server import BUCKET, S3Server

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.die()


def model_bytes(seed: int = 0) -> bytes:
    return tiny_model(TinyModel(seed=seed)).SerializeToString()


def isoserve(s3: S3Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **s3.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def version(server: RunningServer) -> int:
    answer = server.post("/v1/predict", content=colour(255, 0, 0))
    assert answer.status_code == 200, answer.text
    return int(answer.json()["version"])


def states(server: RunningServer) -> dict[int, str]:
    versions = server.get("/v1/models/tiny").json()["versions"]
    return {each["version"]: each["state"] for each in versions}


def test_a_repository_in_s3_is_served_through_new_versions_truncations_and_outages(
    s3: S3Server, start_server: StartServer, tmp_path: Path
) -> None:
    s3.put("served/tiny/1/model.onnx", model_bytes())
    flags = ("--watch-seconds", "0.2", "--store-cache", str(tmp_path))
    url = f"s3://{BUCKET}/served"
    server = start_server(url, *flags, environment=s3.environment)
    assert version(server) == 1

    s3.put("served/tiny/2/model.onnx", model_bytes(1))
    server.wait_until(lambda: version(server) == 2)

    s3.put("served/tiny/3/model.onnx", model_bytes(2)[:-500])
    server.wait_until(lambda: states(server).get(3) == "refused")
    assert version(server) == 2

    s3.die()
    server.wait_until(lambda: "cannot be read" in "".join(server.log))
    assert version(server) == 2
    server.stop()
    server = start_server(url, *flags, environment=s3.environment)  # while the store is away
    assert version(server) == 2

    s3.come_back()
    s3.put("served/tiny/4/model.onnx", model_bytes(3))
    server.wait_until(lambda: version(server) == 4, seconds=60)
    server.stop()


def test_push_counts_versions_up_and_pull_brings_them_back(s3: S3Server, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(model_bytes())
    url = f"s3://{BUCKET}/pushed"
    for number in (1, 2):
        done = isoserve(s3, "push", str(model), url)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{url}/tiny/{number}/model.onnx")
    assert [key for key in s3.list_keys() if key.startswith("pushed/")] == [
        "pushed/tiny/1/model.onnx",
        "pushed/tiny/2/model.onnx",
    ]
    done = isoserve(s3, "pull", url, str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy/tiny/2/model.onnx").read_bytes() == model.read_bytes()

    s3.put("pushed/tiny/3/model.onnx", model_bytes()[:-500])
    done = isoserve(s3, "pull", f"{url}/tiny/3/model.onnx", str(model))
    assert done.returncode == 2
    assert "pushed/tiny/3/model.onnx" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert model.read_bytes() == model_bytes()  # what was there is not lost


def test_a_place_that_is_not_there_is_one_line_and_exit_code_2(s3: S3Server) -> None:
    done = isoserve(s3, "serve", "s3://no-such-bucket/repository", "--port", "0")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("isoserve: no repository at s3://no-such-bucket/repository")
    assert len(done.stderr.splitlines()) == 1


def test_signatures_travel_with_models_and_an_unsigned_version_is_refused(
    s3: S3Server, start_server: StartServer, tmp_path: Path
) -> None:
    pytest.importorskip("model_signing")
    private, public = write_key(tmp_path, "ours")
    model = tmp_path / "model.onnx"
    model.write_bytes(model_bytes())
    url = f"s3://{BUCKET}/signed"
    for arguments in (("sign", str(model), "--key", str(private)), ("push", str(model), url)):
        done = isoserve(s3, *arguments)
        assert done.returncode == 0, done.stderr
    assert "signed/tiny/1/model.onnx.sig" in s3.list_keys()
    s3.put("signed/tiny/2/model.onnx", model_bytes(1))
    server = start_server(
        url,
        *("--store-cache", str(tmp_path / "cache"), "--trusted-key", str(public)),
        environment=s3.environment,
    )
    server.wait_until(lambda: states(server) == {1: "serving", 2: "refused"})
    refused = server.get("/v1/models/tiny").json()["versions"]
    assert [each["reason"] for each in refused if each["version"] == 2] == ["signature"]
    assert version(server) == 1
    server.stop()

    (tmp_path / "model.onnx.sig").unlink()
    done = isoserve(s3, "serve", str(model), "--trusted-key", str(public), "--port", "0")
    assert done.returncode == 2
    assert "not signed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
