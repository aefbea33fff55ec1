"""Which variables are settings: not Kubernetes' own, not empty ones, and none beyond need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_bytes import colour
from running_server import ROOT, RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.commands.options import build
from isoserve.models.errors import InputError
from isoserve.service.environment import ignored_variables
from isoserve.service.settings import ENV_PREFIX, Settings

OF_KUBERNETES = {
    "ISOSERVE_PORT": "tcp://10.96.0.17:8000",
    "ISOSERVE_PORT_8000_TCP": "tcp://10.96.0.17:8000",
    "ISOSERVE_PORT_8000_TCP_PROTO": "tcp",
    "ISOSERVE_SERVICE_HOST": "10.96.0.17",
    "ISOSERVE_SERVICE_PORT": "8000",
    "ISOSERVE_GRPC_PORT": "udp://10.96.0.18:9000",
}
"""For Services named isoserve and isoserve-grpc."""

EMPTY = {f"ISOSERVE_{name.upper()}": "" for name in Settings.model_fields}


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_kubernetes_sets_for_a_service_of_the_name_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in OF_KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = build(Settings, {}, ENV_PREFIX)
    assert (settings.port, settings.grpc_port) == (8000, 0)
    said = ignored_variables(os.environ, ENV_PREFIX, list(Settings.model_fields))
    assert len(said) == 2
    assert "ISOSERVE_PORT=tcp://10.96.0.17:8000 is ignored" in said[0]


def test_a_wrong_port_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOSERVE_PORT", "http://x")
    with pytest.raises(InputError, match="ISOSERVE_PORT"):
        build(Settings, {}, ENV_PREFIX)


def test_empty_variables_are_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EMPTY.items():
        monkeypatch.setenv(name, value)
    assert build(Settings, {}, ENV_PREFIX) == Settings()
    assert Settings().repository == Path("model_repository")


def test_a_server_starts_among_them_and_says_what_it_ignores(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    environment = {**EMPTY, **OF_KUBERNETES}
    server = start_server(tmp_path, environment=environment)
    assert server.get("/healthz/ready").status_code == 200
    said = [line for line in server.log if "is ignored: Kubernetes sets it" in line]
    assert len(said) == 2


def test_an_empty_path_on_the_command_line_is_refused() -> None:
    for arguments in (["serve", "--repository", ""], ["serve", ""]):
        done = program(*arguments)
        assert done.returncode == 2
        assert "is empty" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_to_ask_a_server_reads_none_of_a_servers_settings(
    server: RunningServer, tmp_path: Path
) -> None:
    image = tmp_path / "red.png"
    image.write_bytes(colour(255, 0, 0))
    wrong = {"ISOSERVE_PORT": "no port", "ISOSERVE_ALPHA": "7", "ISOSERVE_MAX_BATCH": "0"}
    done = program("predict", str(image), "--url", server.url, **wrong, ISOSERVE_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert "red" in done.stdout


@pytest.mark.parametrize("command", ["inspect", "predict"])
def test_a_command_reads_the_settings_that_it_needs_alone(tmp_path: Path, command: str) -> None:
    model, image = write_tiny_model(tmp_path / "m.onnx"), tmp_path / "red.png"
    image.write_bytes(colour(255, 0, 0))
    given = ["inspect", str(model)] if command == "inspect" else ["predict", str(image)]
    given += [] if command == "inspect" else ["--model", str(model)]
    done = program(*given, ISOSERVE_PORT="no port", ISOSERVE_QUEUE_IMAGES="1")
    assert done.returncode == 0, done.stderr
    refused = program(*given, ISOSERVE_MAX_MODEL_BYTES="0")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "ISOSERVE_MAX_MODEL_BYTES" in refused.stderr


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "model_repository --port 8000"),
        ({"ISOSERVE_PORT": "9123"}, "--port 9123"),
        ({"ISOSERVE_PORT": ""}, "--port 8000"),
        ({"ISOSERVE_PORT": "tcp://10.96.0.17:8000"}, "--port 8000"),
        ({"ISOSERVE_REPOSITORY": "mine"}, "isoserve serve mine --port"),
        ({"PORT": "7000", "ISOSERVE_PORT": "9123"}, "--port 7000"),
    ],
)
def test_make_serve_goes_by_the_same_variables(environment: dict[str, str], words: str) -> None:
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "--dry-run", "serve"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert words in done.stdout.splitlines()[-1]


def test_a_missing_root_is_logged_once_and_again_when_that_changes(
    start_server: StartServer, tmp_path: Path
) -> None:
    root = tmp_path / "repository"
    write_tiny_model(root / "m" / "1" / "model.onnx")
    server = start_server(root, "--watch-seconds", "0.05")
    root.rename(tmp_path / "away")
    server.wait_until(lambda: any("cannot be read" in line for line in server.log))
    later = [server.get("/healthz/live").status_code for _ in range(10)]
    assert set(later) == {200}
    (tmp_path / "away").rename(root)
    server.wait_until(lambda: any("can be read again" in line for line in server.log))
    assert sum("cannot be read" in line for line in server.log) == 1
    assert server.post("/v1/predict", content=colour(255, 0, 0)).status_code == 200
