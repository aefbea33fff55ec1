"""A real MLflow tracking server on loopback, with an SQLite store, that can die."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

STARTUP_SECONDS = 120


class MlflowServer:
    """Listens from the start; ``environment`` is what a client of it needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self.environment = {"MLFLOW_TRACKING_URI": self.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._log = (self._folder / "server.log").open("a")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"),
                *("--artifacts-destination", str(self._folder / "artifacts")),
                *("--host", "127.0.0.1", "--port", str(self._port)),
            ],
            env={
                **os.environ,
                **self.environment,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "PYTHONWARNINGS": "ignore",
            },
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        deadline = time.monotonic() + STARTUP_SECONDS
        while not self._is_up():
            assert self._process.poll() is None, self._told()
            assert time.monotonic() < deadline, self._told()
            time.sleep(0.2)

    def die(self) -> None:
        """Listen no more, its worker with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait(30)
        self._log.close()

    def register(self, name: str, model: bytes, signature: bytes = b"") -> str:
        """A version of a model, as ``isoserve train`` makes one; its number."""
        client = self.client
        run = client.create_run("0")
        folder = self._folder / run.info.run_id
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        if signature:
            (folder / "model.onnx.sig").write_bytes(signature)
        client.log_artifacts(run.info.run_id, str(folder), "model")
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/model"
        version = client.create_model_version(name, source, run.info.run_id)
        return str(version.version)

    @property
    def client(self) -> Any:
        """MLflow's own, of this server."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def _told(self) -> str:
        return (self._folder / "server.log").read_text()[-3000:]
