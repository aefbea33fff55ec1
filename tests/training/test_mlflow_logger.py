"""A training in a real MLflow server: run, curves, card and model; registered, and loaded."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from isoserve.cli import cli
from isoserve.extras import MLFLOW_SERVERS
from isoserve.models.errors import InputError

pytest.importorskip("mlflow")
pytest.importorskip("alembic")

from mlflow_server import MlflowServer

SMALL = ("--network=resnet9_narrow_32", "--image-size=16", "--batch-size=32", "--held-out=0.35")


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.die()  # it may be dead: the last test here ends it


def train(source: Path, output: Path, *options: str) -> Result:
    words = ["train", str(source), "--output", str(output), *SMALL, "--learning-rate=0.05"]
    return CliRunner().invoke(
        cli, [*words, "--logger=mlflow", *options], standalone_mode=False, catch_exceptions=True
    )


def curve(client: Any, run: str, name: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in client.get_metric_history(run, name)]


def test_run_curves_card_and_model_are_in_mlflow_and_the_name_is_registered(
    mlflow_server: MlflowServer, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    output = tmp_path / "red-and-blue"
    done = train(colours, output, "--epochs=1", "--name=colours", "--logger=tensorboard")
    assert done.exit_code == 0, done.output
    assert "registered: models:/colours/1" in done.output
    assert (output / "tensorboard").is_dir()
    client = mlflow_server.client
    (run,) = client.search_runs([client.get_experiment_by_name("isoserve").experiment_id])
    assert (run.info.run_name, run.info.status) == ("red-and-blue", "FINISHED")
    assert run.data.params["network"] == "resnet9_narrow_32"
    assert run.data.params["epochs"] == "1"
    with (output / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    for name in ("loss", "held_out_accuracy", "learning_rate"):
        expected = [(1, pytest.approx(float(row[name]), rel=1e-5))]
        assert curve(client, run.info.run_id, name) == expected
    model = (output / "model.onnx").read_bytes()
    uri = "models:/colours/1"
    assert run.data.metrics["calibration_accuracy"] == card_of(uri)["held_out"][0]["accuracy"]
    pulled = tmp_path / "pulled.onnx"
    done = CliRunner().invoke(cli, ["pull", uri, str(pulled)], standalone_mode=False)
    assert done.exit_code == 0, done.exception
    assert hashlib.sha256(pulled.read_bytes()).digest() == hashlib.sha256(model).digest()
    loaded = mlflow.onnx.load_model(uri)  # as any user of MLflow would
    assert loaded.graph.input[0].name == "images"

    # A run that is resumed goes on in the same run; its model is the next version.
    done = train(colours, output, "--epochs=1", "--name=colours", "--resume")
    assert done.exit_code == 0, done.output
    assert "registered: models:/colours/2" in done.output
    assert len(client.search_runs([run.info.experiment_id])) == 1


def card_of(uri: str) -> dict[str, Any]:
    import mlflow

    card: dict[str, Any] = json.loads(mlflow.artifacts.load_text(f"{uri}/card.json"))
    return card


def test_without_a_server_nothing_is_trained_and_no_database_is_made(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in MLFLOW_SERVERS:
        monkeypatch.delenv(name, raising=False)
    done = train(colours, tmp_path / "run", "--epochs=1")
    assert isinstance(done.exception, InputError)
    assert "MLFLOW_TRACKING_URI" in str(done.exception)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = train(colours, tmp_path / "run", "--epochs=1")
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith("no run in MLflow: ")
    assert len(str(done.exception).splitlines()) == 1
    assert not (tmp_path / "run/model.onnx").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"run"}


def test_a_server_that_goes_away_ends_no_training(
    mlflow_server: MlflowServer, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isoserve.training.mlflow_logger import MLflowLogger

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    begin = MLflowLogger.log_hyperparams

    def begin_then_die(self: MLflowLogger, *arguments: Any) -> None:
        begin(self, *arguments)
        mlflow_server.die()

    monkeypatch.setattr(MLflowLogger, "log_hyperparams", begin_then_die)
    done = train(colours, tmp_path / "run", "--epochs=2")
    assert isinstance(done.exception, InputError)
    assert "is written, but is not in MLflow" in str(done.exception)
    assert done.output.count("MLflow takes nothing now") == 1
    assert "did not reach MLflow" in done.output
    assert (tmp_path / "run/model.onnx").exists()
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3
