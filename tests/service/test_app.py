"""The routes beside predict, and what holds for every answer."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from image_bytes import colour
from running_server import RunningServer, StartServer
from tiny_model import CALIBRATION_IMAGES as CALIBRATION
from tiny_model import TinyModel, write_tiny_model

from isoserve.service.app import create_app
from isoserve.service.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_service_imports_neither_torch_nor_onnx_nor_training() -> None:
    script = (
        "import sys, isoserve.service.app, isoserve.commands.serve\n"
        "print(*sorted({'torch', 'onnx', 'training', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_models_are_listed_with_their_cards(server: RunningServer) -> None:
    (listed,) = server.get("/v1/models").json()["models"]
    assert listed == server.get("/v1/models/tiny").json()
    assert listed["serving"] == 1
    (version,) = listed["versions"]
    assert version["state"] == "serving"
    assert version["card"]["classes"] == ["red", "green", "blue"]
    assert re.fullmatch("[0-9a-f]{64}", version["sha256"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/nope", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/predict", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/predict/batch", 405),
    ],
)
def test_every_error_is_a_problem_document(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    response = server.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["id"] == response.headers["x-request-id"]


def test_probes_answer(server: RunningServer) -> None:
    assert server.get("/healthz/live").json() == {"status": "live"}
    assert server.get("/healthz/ready").json() == {"status": "ready"}


def test_the_documentation_page_needs_no_other_host(server: RunningServer) -> None:
    page = server.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for source in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert server.get(source.removeprefix(".")).status_code == 200


def test_openapi_documents_the_predict_routes(server: RunningServer) -> None:
    document = server.get("/openapi.json").json()
    for path in ("/v1/predict", "/v1/predict/batch"):
        operation = document["paths"][path]["post"]
        assert {p["name"] for p in operation["parameters"]} == {
            "model",
            "version",
            "top_k",
            "alpha",
            "explain",
        }
        assert {"200", "400", "404", "413", "415", "422", "429", "503"} <= set(
            operation["responses"]
        )
    references = set(re.findall(r'"#/components/schemas/(\w+)"', server.get("/openapi.json").text))
    assert references <= set(document["components"]["schemas"])


def test_every_served_class_has_its_series_before_the_first_image(
    start_server: StartServer, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "m" / "4" / "model.onnx", TinyModel(classes=("cat", "dog")))
    fresh = start_server(tmp_path)
    before = fresh.get("/metrics").text
    for label in ("cat", "dog"):
        for verdict in ("in_distribution", "ood"):
            assert (
                f'isoserve_predictions_total{{label="{label}",model="m",verdict="{verdict}",'
                'version="4"} 0.0' in before
            )
    assert 'isoserve_model_alpha{model="m",version="4"} 0.05' in before
    assert f'isoserve_model_calibration_images{{model="m",version="4"}} {CALIBRATION}.0' in before
    for route in ("/v1/predict", "/v1/predict/batch", "/v2/models/{name}/infer"):
        for status in ("500", "503"):
            failures = (
                f'isoserve_request_duration_seconds_count{{route="{route}",status="{status}"}}'
            )
            assert f"{failures} 0.0" in before
    fresh.post("/v1/predict", content=colour(255, 0, 0))
    fresh.post("/v1/predict", content=colour(128, 128, 128))
    fresh.post("/v1/predict", content=b"nothing")
    after = fresh.get("/metrics").text
    assert 'isoserve_images_total{model="m",verdict="in_distribution",version="4"} 1.0' in after
    assert 'isoserve_images_total{model="m",verdict="ood",version="4"} 1.0' in after
    assert 'isoserve_p_value_count{model="m",version="4"} 2.0' in after
    assert 'isoserve_request_duration_seconds_count{route="/v1/predict",status="200"} 2.0' in after
    assert 'isoserve_request_duration_seconds_count{route="/v1/predict",status="415"} 1.0' in after
    assert "isoserve_batch_size_count 2.0" in after


def test_a_failure_is_a_problem_document_too(tmp_path: Path) -> None:
    app = create_app(Settings(repository=tmp_path))

    def fail(name: str) -> NoReturn:
        raise RuntimeError(f"secret {name}")

    app.repository.find = fail  # type: ignore[method-assign]

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get("http://test/v1/models/m")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reason"] == "internal"
    assert answer.json()["id"] == answer.headers["x-request-id"]
    assert "secret" not in answer.text
