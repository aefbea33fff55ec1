"""Versions loaded and unloaded by the Open Inference Protocol."""

from __future__ import annotations

from pathlib import Path

from image_bytes import colour
from protocol_error import error
from running_server import StartServer
from tiny_model import write_tiny_model


def test_a_version_is_rolled_back_by_request_until_a_newer_one_comes(
    start_server: StartServer, tmp_path: Path
) -> None:
    for version in (1, 2):
        write_tiny_model(tmp_path / "m" / str(version) / "model.onnx")
    server = start_server(tmp_path, "--management", "--watch-seconds", "0.1")

    def serving() -> int:
        return int(server.post("/v1/predict", content=colour(255, 0, 0)).json()["version"])

    versions = "/v2/repository/models/m/versions"
    assert server.post(f"{versions}/2/unload").json() == {}
    assert serving() == 1
    assert server.post(f"{versions}/2/load").json() == {}
    assert serving() == 2
    assert server.post(f"{versions}/2/unload").status_code == 200
    assert "no version 3" in error(server.post(f"{versions}/3/unload"), 404)
    assert "whole number" in error(server.post(f"{versions}/x/load"), 400)
    (tmp_path / "m" / "3").mkdir()
    (tmp_path / "m" / "3" / "model.onnx").write_bytes(b"junk")
    for path in ("/v2/repository/models/m/load", f"{versions}/3/load"):
        said = error(server.post(path), 400)
        assert said.startswith("version 3: ONNX Runtime refuses it")
        assert said.endswith("version 2 serves")  # loading all of the model brought it back
    assert server.post(f"{versions}/2/unload").status_code == 200
    assert server.post(f"{versions}/1/load").status_code == 200
    assert serving() == 1
    write_tiny_model(tmp_path / "m" / "4" / "model.onnx")
    server.wait_until(lambda: serving() == 4)
    states = [each["state"] for each in server.get("/v1/models/m").json()["versions"]]
    assert states == ["serving", "refused", "unloaded", "available"]
