"""Traces of a real server, as a receiver of OTLP over HTTP gets them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_bytes import colour
from running_server import ROOT, RunningServer, StartServer
from tiny_model import TinyModel, write_tiny_model

pytest.importorskip("opentelemetry.sdk", reason="pip install 'isoserve[otel]'")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from isoserve.service.observability.tracing import asked_for

RED = colour(255, 0, 0)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """Parses what is posted to ``/v1/traces`` by OpenTelemetry's published messages."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                assert self.headers["content-type"] == "application/x-protobuf"
                receiver.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        return [
            span
            for request in [*self.requests]
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def of_request(self, request_id: str) -> tuple[Span, list[Span]]:
        """A request's span and its children, once they have come."""
        deadline = time.monotonic() + 30
        while True:
            spans = self.spans()
            for span in spans:
                if attributes(span).get("isoserve.request_id") == request_id:
                    return span, [each for each in spans if each.parent_span_id == span.span_id]
            assert time.monotonic() < deadline, f"{len(spans)} spans came"
            time.sleep(0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


@pytest.fixture(scope="module", name="receiver")
def _receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module", name="root")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("traced")
    write_tiny_model(root / "tiny" / "1" / "model.onnx", TinyModel(work=2))
    return root


@pytest.fixture(scope="module", name="traced")
def _traced(start_server: StartServer, root: Path, receiver: Receiver) -> RunningServer:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        return start_server(root, "--access-log", "--log-format", "json")


def test_a_prediction_is_a_span_with_its_stages_inside(
    traced: RunningServer, receiver: Receiver
) -> None:
    before = time.time_ns()
    answer = traced.post("/v1/predict", content=RED).json()
    after = time.time_ns()
    span, children = receiver.of_request(answer["id"])
    assert span.name == "POST /v1/predict"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert not span.parent_span_id
    given = attributes(span)
    assert given["http.response.status_code"] == 200
    assert (given["isoserve.model"], given["isoserve.version"]) == ("tiny", 1)
    assert (given["isoserve.label"], given["isoserve.is_ood"]) == ("red", False)
    assert given["isoserve.p_value"] == pytest.approx(answer["ood"]["p_value"])
    assert before <= span.start_time_unix_nano <= after
    stages = sorted(children, key=lambda each: each.start_time_unix_nano)
    assert [stage.name for stage in stages] == ["queue", "decode", "inference"]
    moments = [span.start_time_unix_nano]
    for stage in stages:
        assert stage.trace_id == span.trace_id
        moments += [stage.start_time_unix_nano, stage.end_time_unix_nano]
    moments.append(span.end_time_unix_nano)
    slack = 2_000  # nanoseconds that float seconds since 1970 are rounded by
    assert all(later >= sooner - slack for sooner, later in pairwise(moments))
    (resource,) = {
        json.dumps(attributes(each.resource), sort_keys=True)
        for request in receiver.requests
        for each in request.resource_spans
    }
    assert json.loads(resource)["service.name"] == "isoserve"
    assert json.loads(resource)["deployment.environment.name"] == "test"


def test_a_clients_trace_is_joined_and_named_in_the_log_and_in_exemplars(
    traced: RunningServer, receiver: Receiver
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "of-a-client"}
    assert traced.post("/v1/predict", content=RED, headers=headers).status_code == 200
    span, _ = receiver.of_request("of-a-client")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    traced.wait_until(lambda: any("of-a-client" in line for line in traced.log))
    (line,) = [json.loads(line) for line in traced.log if "of-a-client" in line]
    assert line["trace_id"] == TRACE
    accept = {"Accept": "application/openmetrics-text"}
    assert f'trace_id="{TRACE}"' in traced.get("/metrics", headers=accept).text


def test_what_a_client_does_not_sample_is_not_traced(
    traced: RunningServer, receiver: Receiver
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00", "X-Request-ID": "not-sampled"}
    assert traced.post("/v1/predict", content=RED, headers=headers).status_code == 200
    last = traced.post("/v1/predict", content=RED).headers["x-request-id"]
    receiver.of_request(last)
    assert "not-sampled" not in {attributes(s).get("isoserve.request_id") for s in receiver.spans()}
    traced.wait_until(lambda: any("not-sampled" in line for line in traced.log))
    (line,) = [json.loads(line) for line in traced.log if "not-sampled" in line]
    assert "trace_id" not in line


def test_refusals_batches_and_the_protocol_are_traced_too(
    traced: RunningServer, receiver: Receiver
) -> None:
    refused = traced.post("/v1/predict", content=b"no image")
    span, children = receiver.of_request(refused.headers["x-request-id"])
    assert attributes(span)["isoserve.reason"] == "format_not_allowed"
    assert children == []
    batch = traced.post("/v1/predict/batch", files=[("files", ("x", RED))] * 3)
    span, children = receiver.of_request(batch.headers["x-request-id"])
    assert attributes(span)["isoserve.images"] == 3
    assert len(children) == 3
    pixels = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    tensor = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": pixels.tolist()}
    inferred = traced.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    span, children = receiver.of_request(inferred.headers["x-request-id"])
    assert span.name == "POST /v2/models/{name}/infer"
    assert len(children) == 3


def test_what_waits_is_sent_before_the_server_ends(
    start_server: StartServer, root: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    server = start_server(root)
    request_id = server.post("/v1/predict", content=RED).headers["x-request-id"]
    assert server.stop() == 0
    receiver.of_request(request_id)


def test_a_receiver_that_is_away_harms_nobody(
    start_server: StartServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    server = start_server(root)
    for _ in range(20):
        assert server.post("/v1/predict", content=RED).status_code == 200
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("environment", "traces"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
    ],
)
def test_traces_are_made_where_the_environment_asks(
    environment: dict[str, str], traces: bool
) -> None:
    assert asked_for(environment) is traces


def test_nothing_is_imported_where_nothing_asks() -> None:
    script = (
        "import sys\n"
        "from isoserve.service.app import create_app\n"
        "from isoserve.service.settings import Settings\n"
        "create_app(Settings())\n"
        "spans = 'isoserve.service.observability.tracing.spans'\n"
        "ours = ('opentelemetry.sdk', 'opentelemetry.exporter', spans)\n"
        "print(*(name for name in sys.modules if name.startswith(ours)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env={}
    )
    assert done.stdout.strip() == ""
