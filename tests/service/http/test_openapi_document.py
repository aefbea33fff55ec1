"""The real server held against its own OpenAPI document, by schemathesis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from running_server import RunningServer

from isoserve.service.app import create_app
from isoserve.service.inference_protocol.openapi import OPERATIONS
from isoserve.service.settings import Settings

# 413 is how too many images are refused; schemathesis does not count it among refusals by itself.
# Each part of a batch is bytes, whatever its JSON type was, and a bad one is answered within a 200.
CONFIG = """
[parameters]
"path.name" = "tiny"
"path.version" = "1"
"query.model" = "tiny"

[checks.negative_data_rejection]
expected-statuses = [400, 403, 404, 405, 413, 415, 422]

[[operations]]
include-path = "/v1/predict/batch"
checks.negative_data_rejection.enabled = false
"""


def run_schemathesis(server: RunningServer, folder: Path, *flags: str) -> str:
    """The report; fails where the server contradicts its document.

    Whether a body is an image no schema can say, so valid-looking uploads may be refused.
    """
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config)),
            *("run", f"{server.url}/openapi.json", "--no-color", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing"),
            *("--exclude-checks", "positive_data_acceptance", *flags),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, report + done.stderr
    return report


def test_the_server_keeps_what_its_document_says(server: RunningServer, tmp_path: Path) -> None:
    report = run_schemathesis(server, tmp_path, "--max-examples", "5")
    operations = server.get("/openapi.json").json()["paths"]
    assert f"Tested: {sum(map(len, operations.values()))}" in report
    assert server.get("/healthz/ready").status_code == 200


def test_every_route_is_documented() -> None:
    application = create_app(Settings())
    paths = application.api.openapi()["paths"]
    for each in application.api.routes:
        if isinstance(each, APIRoute) and each.include_in_schema:
            assert {method.lower() for method in each.methods} <= set(paths[each.path])
    assert {(each.method, each.path) for each in OPERATIONS} == {
        (method, path) for path in paths if path.startswith("/v2") for method in paths[path]
    }


@pytest.mark.parametrize("path", ["/v2/models/{name}/infer", "/v1/predict"])
def test_the_verdict_routes_tell_their_errors(server: RunningServer, path: str) -> None:
    responses = server.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert {"200", "400", "404", "408", "413", "415", "429", "503"} <= set(responses)
