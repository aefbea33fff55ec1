"""A training as a run in MLflow: parameters, curves, card and model, registered if named."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import click
from lightning_fabric.loggers.logger import Logger

from isoserve.extras import import_mlflow, mlflow_server
from isoserve.models.card import ModelCard
from isoserve.models.errors import InputError
from isoserve.models.text import pluralize
from isoserve.training.atomic import atomic_path

RUN_FILE = "mlflow.json"
EXPERIMENT = "isoserve"
ARTIFACT = "model"
MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""That MLflow takes at once."""


class MLflowLogger(Logger):
    """The run of the training in ``output``; one that is resumed goes on in the same run.

    Nothing is asked of the server before :meth:`log_hyperparams`. What it does not take while the
    training runs is kept and sent again: a server that is away ends no training.

    Args:
        output: folder of the training.
        model_name: what the model is registered as; empty: it is not.

    Raises:
        InputError: mlflow is not installed, or MLFLOW_TRACKING_URI is not set.
    """

    def __init__(self, output: Path, model_name: str = "") -> None:
        if not mlflow_server():
            raise InputError("--logger is mlflow: MLFLOW_TRACKING_URI must name its server")
        try:
            self._mlflow = import_mlflow()
        except ImportError as error:
            raise InputError(
                f"--logger is mlflow, which is not installed ({error}): "
                "pip install 'isoserve[mlflow]'"
            ) from error
        self._client = self._mlflow.MlflowClient()
        self._output = output
        self._model_name = model_name
        self._run_id = ""
        self._unsent: list[Any] = []
        self._is_away = False

    @property
    def name(self) -> str:
        """Of the experiment: MLFLOW_EXPERIMENT_NAME, or isoserve."""
        return str(self._mlflow.environment_variables.MLFLOW_EXPERIMENT_NAME.get() or EXPERIMENT)

    @property
    def version(self) -> str:
        """The run's identifier; empty before it has begun."""
        return self._run_id

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Begin the run with these, or go on with the one of the folder.

        Raises:
            InputError: the server does not answer, or refuses.
        """
        try:
            if self._is_resumed():
                self._client.update_run(self._run_id, status="RUNNING")
                return
            self._begin(vars(params) if isinstance(params, Namespace) else params)
        except self._mlflow.MlflowException as error:
            raise InputError(f"no run in MLflow: {_in_one_line(error)}") from error
        with atomic_path(self._output / RUN_FILE) as path:
            path.write_text(json.dumps({"run_id": self._run_id}))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send an epoch's numbers, and what could not be sent before."""
        now = round(1000 * time.time())
        entity = self._mlflow.entities.Metric
        self._unsent += [entity(key, value, now, step or 0) for key, value in metrics.items()]
        self._send()

    def log_model(self, path: Path, card: ModelCard) -> None:
        """The file with its card, in a form that MLflow's own onnx flavour loads; registered.

        Raises:
            InputError: the server does not take them; the file is where it was.
        """
        try:
            self._log_model(path, card)
        except self._mlflow.MlflowException as error:
            raise InputError(
                f"{path} is written, but is not in MLflow: {_in_one_line(error)}"
            ) from error

    def finalize(self, status: str) -> None:
        """End the run: success, or anything else."""
        if not self._run_id:
            return
        self._send()
        try:
            ended = "FINISHED" if status == "success" else "FAILED"
            self._client.set_terminated(self._run_id, ended)
        except self._mlflow.MlflowException as error:
            self._warn(error)
        if self._unsent:
            click.echo(
                f"isoserve: {pluralize(len(self._unsent), 'number')} did not reach MLflow; "
                f"they are in {self._output / 'metrics.csv'}",
                err=True,
            )

    def _is_resumed(self) -> bool:
        try:
            self._run_id = json.loads((self._output / RUN_FILE).read_text())["run_id"]
            self._client.get_run(self._run_id)
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, self._mlflow.MlflowException) as error:
            if getattr(error, "error_code", "RESOURCE_DOES_NOT_EXIST") != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._run_id = ""  # removed since, or another server's
            return False
        return True

    def _begin(self, parameters: dict[str, Any]) -> None:
        experiment = self._client.get_experiment_by_name(self.name)
        experiment_id = (
            self._client.create_experiment(self.name)
            if experiment is None
            else experiment.experiment_id
        )
        run = self._client.create_run(experiment_id, run_name=self._output.resolve().name)
        self._run_id = run.info.run_id
        entity = self._mlflow.entities.Param
        entities = [entity(key, str(value)[:6000]) for key, value in parameters.items()]
        for start in range(0, len(entities), MOST_PARAMETERS):
            chunk = entities[start : start + MOST_PARAMETERS]
            self._client.log_batch(self._run_id, params=chunk)

    def _send(self) -> None:
        try:
            while self._unsent and self._run_id:
                chunk = self._unsent[:MOST_METRICS]
                self._client.log_batch(self._run_id, metrics=chunk)
                del self._unsent[: len(chunk)]
            self._is_away = False
        except self._mlflow.MlflowException as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._is_away:
            click.echo(f"isoserve: MLflow takes nothing now: {_in_one_line(error)}", err=True)
        self._is_away = True

    def _log_model(self, path: Path, card: ModelCard) -> None:
        for part in card.held_out:
            figures = {"accuracy": part.accuracy, "ece": part.ece, "nll": part.nll}
            for key, value in {**figures, "rejected": part.rejected}.items():
                self._client.log_metric(self._run_id, f"{part.split}_{key}", value)
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder, ARTIFACT)
            model.mkdir()
            shutil.copyfile(path, model / "model.onnx")
            (model / "card.json").write_text(card.model_dump_json(indent=1))
            self._describe(model)
            self._client.log_artifacts(self._run_id, str(model), ARTIFACT)
        if self._model_name:
            registered = self._mlflow.register_model(
                f"runs:/{self._run_id}/{ARTIFACT}", self._model_name
            )
            click.echo(f"registered: models:/{registered.name}/{registered.version}")

    def _describe(self, folder: Path) -> None:
        """``MLmodel``, by which MLflow finds out how to load what is there."""
        import onnx
        from mlflow.models import Model

        (folder / "requirements.txt").write_text("isoserve\nonnx\nonnxruntime\n")
        described = Model(artifact_path=ARTIFACT, run_id=self._run_id)
        described.add_flavor(
            "onnx",
            onnx_version=onnx.__version__,
            data="model.onnx",
            providers=["CUDAExecutionProvider", "CPUExecutionProvider"],
        )
        described.add_flavor("python_function", loader_module="mlflow.onnx", data="model.onnx")
        described.save(folder / "MLmodel")


def _in_one_line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.300}"
