"""``isoserve serve``: its options, its refusals, its start and its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

from isoserve.commands.options import build, flag
from isoserve.commands.serve import serve
from isoserve.models.errors import InputError
from isoserve.service.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isoserve", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_setting_is_a_flag_with_a_sentence() -> None:
    text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    for name, field in Settings.model_fields.items():
        assert flag(name) in text
        assert field.description
        assert field.description.endswith(".")


def test_a_flag_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert build(Settings, {}, ENV_PREFIX).alpha == 0.05
    monkeypatch.setenv("ISOSERVE_ALPHA", "0.1")
    assert build(Settings, {}, ENV_PREFIX).alpha == 0.1
    assert build(Settings, {"alpha": "0.2"}, ENV_PREFIX).alpha == 0.2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha": "1"}, "--alpha (ISOSERVE_ALPHA)"),
        ({"alpha": "0"}, "greater than 0"),
        ({"port": "70000"}, "65535, got '70000'"),
        ({"queue_images": "8"}, "max_batch_images (64) must not exceed queue_images (8)"),
        ({"watch_seconds": "inf"}, "--watch-seconds (ISOSERVE_WATCH_SECONDS)"),
        ({"grace_seconds": "1e9"}, "less than or equal to 604800"),
        ({"review_days": "1e6"}, "less than or equal to 36500"),
        ({"port": "8001", "grpc_port": "8001"}, "must differ, not both be 8001"),
        ({"max_body_bytes": str(2**40)}, "must not exceed max_batch_body_bytes"),
    ],
)
def test_a_bad_setting_is_one_clear_line(given: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        build(Settings, given, ENV_PREFIX)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_served_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    for arguments in (
        ("serve", str(tmp_path / "missing")),
        ("serve", str(bad)),
        ("serve", str(tmp_path), "--alpha", "2"),
        ("serve", str(tmp_path), "--repository", str(tmp_path)),
        ("serve", str(tmp_path), "--host", "203.0.113.1"),
        ("serve", str(tmp_path), "--workers", "2", "--review-token-file", str(tmp_path / "none")),
    ):
        done = command(*arguments)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("isoserve: ")


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    done = command("serve", str(text))
    assert done.returncode == 2
    assert done.stderr.startswith(f"isoserve: '{text}' cannot be served: ")


def test_a_single_file_is_served_under_its_cards_name(
    start_server: StartServer, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "any.onnx", TinyModel(name="colours"))
    answer = start_server(path).post("/v1/predict", content=colour(0, 0, 255)).json()
    assert (answer["model"], answer["version"]) == ("colours", 1)


def test_an_empty_repository_is_alive_and_not_ready_until_a_model_comes(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(tmp_path, "--watch-seconds", "0.1", ready=False)
    assert server.get("/healthz/live").status_code == 200
    assert server.get("/healthz/ready").status_code == 503
    refused = server.post("/v1/predict", content=colour(255, 0, 0))
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server.wait_until(lambda: server.get("/healthz/ready").status_code == 200)
    assert server.post("/v1/predict", content=colour(255, 0, 0)).status_code == 200


def test_versions_come_and_go_under_a_running_server(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server = start_server(tmp_path, "--watch-seconds", "0.1")

    def version() -> int:
        answer = server.post("/v1/predict", content=colour(255, 0, 0))
        assert answer.status_code == 200
        return int(answer.json()["version"])

    assert version() == 1
    write_tiny_model(tmp_path / "m" / "2" / "model.onnx")
    server.wait_until(lambda: version() == 2)
    bad = tmp_path / "m" / "3"
    bad.mkdir()
    (bad / "model.onnx").write_bytes(b"junk")
    server.wait_until(lambda: states(server).get(3) == "refused")
    assert version() == 2
    shutil.rmtree(tmp_path / "m" / "2")
    server.wait_until(lambda: version() == 1)


def states(server: RunningServer) -> dict[int, str]:
    versions = server.get("/v1/models/m").json()["versions"]
    return {entry["version"]: entry["state"] for entry in versions}


def test_a_second_interrupt_drops_who_is_slow_without_a_stack_trace(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    server = start_server(tmp_path, "--body-seconds", "100", "--grace-seconds", "100")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        assert server.get("/healthz/live").status_code == 200
        server.process.send_signal(signal.SIGINT)
        server.wait_until(lambda: not accepts(host, int(port)))
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=30) == 0
    assert not [line for line in server.log if "Traceback" in line or "Error" in line]


def accepts(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_counts_begin_at_zero_though_the_environment_names_a_folder_for_them(
    start_server: StartServer, tmp_path: Path, workers: str
) -> None:
    write_tiny_model(tmp_path / "models" / "m" / "1" / "model.onnx")
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "counts")}
    counted = 'isoserve_images_total{model="m",verdict="in_distribution",version="1"} 1.0'
    for _ in range(2):
        server = start_server(
            tmp_path / "models", "--workers", workers, "--slots", "1", environment=environment
        )
        assert server.post("/v1/predict", content=colour(255, 0, 0)).status_code == 200
        text = server.get("/metrics").text
        assert counted in text
        assert ("process_resident_memory_bytes" in text) == (workers == "1")
        assert (tmp_path / "counts").exists() == (workers == "2")
        assert server.stop() == 0


def test_sigterm_ends_the_server_with_exit_code_0(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "1" / "model.onnx")
    assert start_server(tmp_path).stop() == 0
