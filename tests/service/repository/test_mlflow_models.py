"""Registered models of a real MLflow server: served, pulled, scored with, watched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from image_bytes import colour
from running_server import ROOT, RunningServer, StartServer
from tiny_model import TinyModel, tiny_model

from isoserve.cli import cli
from isoserve.extras import MLFLOW_SERVERS
from isoserve.models.errors import InputError

pytest.importorskip("mlflow")
pytest.importorskip("alembic")

from mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.die()  # it may be dead: the last test here ends it


def model_bytes(seed: int = 0) -> bytes:
    return tiny_model(TinyModel(seed=seed)).SerializeToString()


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MLFLOW_SERVERS:
        monkeypatch.delenv(name, raising=False)


def isoserve(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def succeeds(*arguments: object) -> str:
    done = isoserve(*arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def refused(*arguments: object) -> str:
    """What the program says in its one line; the exit code that goes with it is 2."""
    done = isoserve(*arguments)
    assert isinstance(done.exception, InputError), done.exception
    assert len(str(done.exception).splitlines()) == 1
    return str(done.exception)


def digest(server: RunningServer) -> str:
    answer = server.post("/v1/predict", content=colour(255, 0, 0))
    assert answer.status_code == 200, answer.text
    return str(server.get("/v1/models/tiny").json()["versions"][0]["sha256"])


def test_versions_aliases_and_all_are_pulled_and_scored_with(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    assert mlflow_server.register("shirts", model_bytes(), b"signature") == "1"
    assert mlflow_server.register("shirts", model_bytes(1)) == "2"
    mlflow_server.client.set_registered_model_alias("shirts", "champion", "1")
    for place, seed in (("shirts/1", 0), ("shirts@champion", 0), ("shirts/latest", 1)):
        target = tmp_path / place.replace("/", "-") / "model.onnx"
        target.parent.mkdir()
        succeeds("pull", f"models:/{place}", target)
        assert target.read_bytes() == model_bytes(seed)
        assert target.with_name("model.onnx.sig").exists() == (seed == 0)
    succeeds("pull", "models:/shirts", tmp_path / "all")
    assert (tmp_path / "all/shirts/2/model.onnx").read_bytes() == model_bytes(1)

    (tmp_path / "red.png").write_bytes(colour(255, 0, 0))
    scoring = ("score", tmp_path / "red.png", "--output", tmp_path / "scored", "--model")
    assert "1 image" in succeeds(*scoring, "models:/shirts/2")
    assert "another --output" in refused(*scoring, "models:/shirts/1")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("hats/1", "hats"),
        ("hats", "hats"),
        ("caps/7", "caps"),
        ("caps@nobody", "nobody"),
        ("caps/Production", "names no model"),
    ],
)
def test_what_is_not_there_is_one_line(
    mlflow_server: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    said: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    if not mlflow_server.client.search_registered_models("name='caps'"):
        mlflow_server.register("caps", model_bytes())
    assert said in refused("pull", f"models:/{place}", tmp_path / "copy")


def test_serving_what_is_not_there_is_one_line_and_exit_code_2(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    done = served(tmp_path, mlflow_server.environment)
    assert done.returncode == 2
    assert done.stderr.startswith("isoserve: no repository at models:/nothing/1: ")
    assert len(done.stderr.splitlines()) == 1


def served(folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``isoserve serve`` of a model that nobody has."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "isoserve", "serve", "models:/nothing/1", "--port", "0"),
            *("--store-cache", str(folder / "cache")),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_no_server_is_one_line_and_leaves_no_database_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        ("pull", "models:/caps/1", "copy"),
        ("score", ".", "--model", "models:/caps/1", "--output", "scored"),
    ):
        assert "MLFLOW_TRACKING_URI" in refused(*words)
    done = served(tmp_path, {})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "MLFLOW_TRACKING_URI" in done.stderr
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "models:/caps/1" in refused("pull", "models:/caps/1", "copy")


def test_a_served_alias_is_followed_and_serves_on_while_mlflow_is_away(
    mlflow_server: MlflowServer,
    start_server: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = mlflow_server.environment
    for seed in (0, 1):
        mlflow_server.register("coats", model_bytes(seed))
    mlflow_server.client.set_registered_model_alias("coats", "champion", "1")
    flags = ("--watch-seconds", "0.5", "--store-cache", str(tmp_path / "cache"))
    server = start_server("models:/coats@champion", *flags, environment=environment)
    assert digest(server) == hashlib.sha256(model_bytes(0)).hexdigest()
    mlflow_server.client.set_registered_model_alias("coats", "champion", "2")
    second = hashlib.sha256(model_bytes(1)).hexdigest()
    server.wait_until(lambda: digest(server) == second)
    mlflow_server.die()
    server.wait_until(lambda: "cannot be read" in "".join(server.log))
    server.stop()
    server = start_server("models:/coats@champion", *flags, environment=environment)
    assert digest(server) == second  # the last good copy
    server.stop()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    assert "cannot be read" in refused("pull", "models:/coats/1", tmp_path / "away")
