"""What a page of another site can make a visitor's browser do."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_server import RunningServer, StartServer
from tiny_model import write_tiny_model

from isoserve.service.http.csrf import is_cross_origin


@pytest.mark.parametrize(
    ("headers", "elsewhere"),
    [
        ([(b"host", b"serve:8000")], False),
        ([(b"host", b"serve:8000"), (b"origin", b"http://serve:8000")], False),
        ([(b"host", b"serve"), (b"origin", b"https://serve")], False),
        ([(b"host", b"serve:8000"), (b"origin", b"http://serve:8001")], True),
        ([(b"host", b"serve:8000"), (b"origin", b"https://evil.example")], True),
        ([(b"host", b"serve:8000"), (b"origin", b"null")], True),
        ([(b"origin", b"http://serve")], True),
    ],
)
def test_the_page_must_be_of_the_host_that_is_asked(
    headers: list[tuple[bytes, bytes]], elsewhere: bool
) -> None:
    assert is_cross_origin(headers) == elsewhere


def test_another_sites_page_unloads_no_model(start_server: StartServer, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny" / "1" / "model.onnx")
    server: RunningServer = start_server(tmp_path, "--management")
    unload = "/v2/repository/models/tiny/unload"
    refused = server.post(unload, headers={"Origin": "https://evil.example"})
    assert refused.status_code == 403
    assert "another site" in refused.json()["error"]
    assert server.get("/healthz/ready").status_code == 200
    assert server.post(unload, headers={"Origin": server.url}).status_code == 200
    assert server.get("/healthz/ready").status_code == 503
