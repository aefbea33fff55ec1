"""One line per request, from a real server's stderr."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from image_bytes import colour, encode
from ports import free_port
from running_server import LISTENING, ROOT, RunningServer, StartServer
from tiny_model import write_tiny_model

RED = colour(255, 0, 0)
GRAY = colour(128, 128, 128)
TOKEN = "a-token-of-twenty-two!"


@pytest.fixture(scope="module", name="root")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("logging")
    write_tiny_model(root / "tiny" / "1" / "model.onnx")
    return root


@pytest.fixture(scope="module", name="logging")
def _told(start_server: StartServer, root: Path) -> RunningServer:
    return start_server(root, "--access-log", "--log-format", "json")


def line_of(server: RunningServer, request_id: str) -> dict[str, Any]:
    """The one access line of a request."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [json.loads(line) for line in [*server.log] if request_id in line]
        return bool(found)

    server.wait_until(there)
    (line,) = found
    assert line["logger"] == "isoserve.access"
    return line


def test_a_prediction_is_told_with_its_verdict_and_where_its_time_went(
    logging: RunningServer,
) -> None:
    begun = time.time()
    answer = logging.post("/v1/predict", content=RED, headers={"X-Request-ID": "my-own-id"})
    line = line_of(logging, "my-own-id")
    verdict = answer.json()
    assert line["id"] == verdict["id"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/predict", 200)
    assert (line["model"], line["version"]) == ("tiny", 1)
    assert line["label"] == verdict["prediction"]["label"] == "red"
    assert (line["is_ood"], line["p_value"]) == (False, verdict["ood"]["p_value"])
    stages = [line[f"{stage}_seconds"] for stage in ("queue_wait", "decode", "inference")]
    assert all(seconds >= 0 for seconds in stages)
    assert 0 < sum(stages) <= line["total_seconds"] + 3e-6
    assert (line["image_bytes"], line["image_format"]) == (len(RED), "PNG")
    assert line["level"] == "info"
    told_at = time.mktime(time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert begun - 1 <= told_at <= time.time()


def test_the_verdict_logged_is_the_one_at_the_alpha_of_the_request(logging: RunningServer) -> None:
    for alpha, is_ood in ((0.001, False), (0.999, True)):
        request_id = f"at-alpha-{alpha}"
        headers = {"X-Request-ID": request_id}
        answer = logging.post(f"/v1/predict?alpha={alpha}", content=GRAY, headers=headers).json()
        assert 0.001 < answer["ood"]["p_value"] < 0.05
        assert line_of(logging, request_id)["is_ood"] is answer["ood"]["is_ood"] is is_ood


def test_a_batch_is_one_line_with_a_column_of_verdicts(logging: RunningServer) -> None:
    files = [("files", ("x", each)) for each in (RED, b"no image", GRAY)]
    answer = logging.post("/v1/predict/batch", files=files, headers={"X-Request-ID": "a-batch"})
    first, _, last = answer.json()["results"]
    line = line_of(logging, "a-batch")
    assert (line["images"], line["rejected"]) == (3, 1)
    assert line["labels"] == ["red", None, last["prediction"]["label"]]
    assert line["p_values"] == [first["ood"]["p_value"], None, last["ood"]["p_value"]]
    assert line["image_bytes"] == len(RED) + len(GRAY)


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/predict", b"no image", 415, "format_not_allowed"),
        ("/v1/predict", RED[:-20], 400, "truncated"),
        ("/v1/predict?top_k=x", RED, 422, "bad_parameter"),
        ("/v1/predict?model=nope", RED, 404, "no_such_model"),
        ("/v1/predict/batch", RED, 415, "not_multipart"),
        ("/v2/models/tiny/infer", b"{}", 400, "bad_request"),
        ("/nowhere", b"", 404, "http"),
    ],
)
def test_a_refusal_is_told_with_its_reason(
    logging: RunningServer, path: str, body: bytes, status: int, reason: str
) -> None:
    answer = logging.post(path, content=body)
    line = line_of(logging, answer.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (status, reason)
    assert "label" not in line


def test_the_protocol_of_version_2_is_logged_too(logging: RunningServer) -> None:
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    tensor = {"name": "images", "shape": [2, 8, 8, 3], "datatype": "UINT8", "data": pixels.tolist()}
    answer = logging.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    line = line_of(logging, answer.headers["x-request-id"])
    assert (line["route"], line["status"]) == ("/v2/models/{name}/infer", 200)
    assert (line["images"], len(line["labels"])) == (2, 2)


def test_what_machines_ask_every_few_seconds_is_not_logged(logging: RunningServer) -> None:
    asked = ["/healthz/live", "/healthz/ready", "/v2/health/ready", "/metrics"]
    ids = [logging.get(path).headers["x-request-id"] for path in asked]
    last = logging.get("/v1/models").headers["x-request-id"]
    assert line_of(logging, last)["route"] == "/v1/models"
    assert not [line for line in logging.log if any(each in line for each in ids)]


def test_neither_image_nor_credentials_are_logged(logging: RunningServer) -> None:
    logging.post(
        "/v1/predict?explain=true",
        content=RED,
        headers={"X-Request-ID": "private", "Authorization": f"Bearer {TOKEN}"},
    )
    line_of(logging, "private")
    text = "".join(logging.log)
    assert TOKEN not in text
    for begin in range(len(RED) - 12):
        assert RED[begin : begin + 12].hex() not in text
    assert base64.b64encode(RED)[:40].decode() not in text


def test_every_line_of_the_server_is_a_document(logging: RunningServer) -> None:
    documents = [json.loads(line) for line in [*logging.log]]
    assert {"isoserve", "isoserve.repository"} <= {each["logger"] for each in documents}
    for document in documents:
        assert {"time", "level", "logger"} <= set(document)
        assert "message" in document or document["logger"] == "isoserve.access"


def test_a_grpc_call_is_told_under_the_id_its_client_gave(
    start_server: StartServer, root: Path
) -> None:
    pytest.importorskip("grpc")
    import tritonclient.grpc as triton

    tensor = triton.InferInput("images", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([RED], dtype=np.object_))
    port = free_port()
    flags = ("--access-log", "--log-format", "json", "--grpc-port", str(port))
    server = start_server(root, *flags)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        client.infer("tiny", [tensor], headers={"x-request-id": "from-grpc"})
    line = line_of(server, "from-grpc")
    assert (line["route"], line["status"]) == ("grpc ModelInfer", 200)
    assert (line["label"], line["image_format"]) == ("red", "PNG")


def test_in_text_a_line_is_for_a_person_and_off_means_none(
    start_server: StartServer, root: Path
) -> None:
    server = start_server(root, "--access-log")
    for image, ending in ((RED, "tiny/1 'red' known p="), (GRAY, "ood p=")):
        request_id = server.post("/v1/predict", content=image).headers["x-request-id"]
        server.wait_until(lambda wanted=request_id: any(wanted in line for line in server.log))
        (line,) = [line for line in server.log if request_id in line]
        assert line.startswith("INFO isoserve.access: 200 POST /v1/predict ")
        assert ending in line
        assert line.endswith(f"(request {request_id})\n")
    silent = start_server(root)
    silent.post("/v1/predict", content=RED)
    assert silent.stop() == 0
    assert not [line for line in silent.log if "isoserve.access" in line]


def test_a_stderr_that_nobody_reads_keeps_no_request_waiting(root: Path) -> None:
    flags = ("--access-log", "--log-format", "json", "--port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "isoserve", "serve", str(root), *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        listening = next(found for line in process.stderr if (found := LISTENING.search(line)))
        with httpx.Client(base_url=listening[1], timeout=20) as client:
            while client.get("/healthz/ready").status_code != 200:
                time.sleep(0.05)
            for _ in range(600):  # the pipe holds 64 KB, a line has over 300 bytes
                assert client.post("/v1/predict", content=RED).status_code == 200
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_the_last_lines_are_written_before_the_server_ends(
    start_server: StartServer, root: Path
) -> None:
    server = start_server(root, "--access-log", "--workers", "2", "--slots", "1")
    ids = [server.post("/v1/predict", content=RED).headers["x-request-id"] for _ in range(20)]
    assert server.stop() == 0
    deadline = time.monotonic() + 20
    while not all(any(each in line for line in server.log) for each in ids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_format_of_a_photograph_and_its_decoding_are_logged(logging: RunningServer) -> None:
    photo = encode("JPEG", np.full((700, 700, 3), (0, 0, 255), dtype=np.uint8))
    logging.post("/v1/predict", content=photo, headers={"X-Request-ID": "a-photo"})
    line = line_of(logging, "a-photo")
    assert (line["label"], line["image_format"]) == ("blue", "JPEG")
    assert line["image_bytes"] == len(photo)
    assert line["decode_seconds"] > 0
