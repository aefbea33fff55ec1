"""What people send in place of an image: named, with the way out, over a real socket."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from image_bytes import encode, noise
from running_server import RunningServer

BOUNDARY = "x-boundary"


def form(fields: int, *, end: bool = True) -> bytes:
    """A multipart form of text fields, and one image behind them."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nv\r\n'.encode()
        for n in range(fields)
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    parts += [head.encode(), encode("PNG"), b"\r\n"]
    return b"".join(parts) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


@pytest.mark.parametrize("kind", ["TIFF", "AVIF", "HEIF"])
def test_formats_of_phones_and_instruments_are_served(server: RunningServer, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif")
    answer = server.post("/v1/predict", content=encode(kind))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"image": "aGVsbG8="}', "JSON"),
        (b"%PDF-1.7 ...", "PDF"),
        (encode("JPEG2000"), "JPEG 2000"),
    ],
)
def test_what_is_no_image_is_named(server: RunningServer, body: bytes, words: str) -> None:
    answer = server.post("/v1/predict", content=body)
    assert answer.status_code == 415
    assert words in answer.json()["detail"]
    assert "send a JPEG, PNG" in answer.json()["detail"]


@pytest.mark.parametrize("size", [40, 700])
def test_curls_d_is_told_to_be_data_binary(
    server: RunningServer, tmp_path: Path, size: int
) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    photo = tmp_path / "photo.jpg"
    body = encode("JPEG", noise(size, size))
    assert b"\n" in body or b"\0" in body
    photo.write_bytes(body)
    url = f"{server.url}/v1/predict"
    done = subprocess.run(
        [curl, "-s", "-d", f"@{photo}", url], capture_output=True, text=True, timeout=30
    )
    assert "--data-binary @photo.jpg" in done.stdout
    done = subprocess.run(
        [curl, "-s", "--data-binary", f"@{photo}", url], capture_output=True, text=True, timeout=30
    )
    assert '"prediction"' in done.stdout  # of the same content type


def test_too_many_fields_of_a_form_name_the_limit(server: RunningServer) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert server.post("/v1/predict", content=form(16), headers=headers).status_code == 200
    answer = server.post("/v1/predict", content=form(17), headers=headers)
    assert answer.status_code == 400
    assert "more than 16 parts besides 'file'" in answer.json()["detail"]


def test_malformed_forms_do_not_write_the_log(server: RunningServer) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    before = len(server.log)
    for body in (
        form(1, end=False),
        form(1) + b"more behind the end",
        b"no boundary at all",
        form(1).replace(b"\r\n", b"\n"),
        form(1).replace(b"Content-Disposition:", b"Content Disposition"),
        b"--" + BOUNDARY.encode() + b"\r\n: \r\n\r\n",
    ):
        for _ in range(3):
            status = server.post("/v1/predict", content=body, headers=headers).status_code
            assert status in (200, 400)
    assert server.get("/healthz/live").status_code == 200
    assert server.log[before:] == []
