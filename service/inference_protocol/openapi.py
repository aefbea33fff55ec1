"""What ``/openapi.json`` says of the routes under ``/v2``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from isoserve.service.inference_protocol import documents

SCHEMAS = "#/components/schemas/"
INDEX_SCHEMA = {"type": "array", "items": {"$ref": f"{SCHEMAS}{documents.IndexEntry.__name__}"}}

NO_MODEL = {404: "No such model or version.", 503: "No version of it is loaded."}
BODY_ERRORS = {
    400: "The request is not the protocol's, or an image is not decodable.",
    408: "The body took too long to arrive.",
    413: "Too many bytes, pixels or images.",
}
VERSION_ERROR = {400: "The version is not a number."}


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    ``name``: whose handler answers it; ``errors``: what each status means; ``error``: the
    document that they carry.
    """

    name: str
    method: str
    path: str
    summary: str
    answer: type[BaseModel] | dict[str, Any]
    errors: dict[int, str] = field(default_factory=dict)
    error: type[BaseModel] = documents.ErrorDocument
    body: type[BaseModel] | None = None
    binary: bool = False
    body_required: bool = False

    @property
    def id(self) -> str:
        """Its name in the document."""
        return re.sub(r"\W+", "_", f"{self.method}{self.path}").strip("_")


def _versioned(operation: Operation) -> Sequence[Operation]:
    """The operation, and the one on a version of the model."""
    path = operation.path.replace("{name}", "{name}/versions/{version}")
    return (
        operation,
        Operation(
            **{
                **vars(operation),
                "path": path,
                "summary": f"{operation.summary}, of a version",
                "errors": VERSION_ERROR | operation.errors,
            }
        ),
    )


OPERATIONS = (
    Operation("live", "get", "/v2/health/live", "The process answers", documents.Live),
    Operation(
        "ready",
        "get",
        "/v2/health/ready",
        "A model is loaded",
        documents.Ready,
        {503: "None is loaded."},
        documents.Ready,
    ),
    Operation(
        "server_metadata", "get", "/v2", "Name, version, extensions", documents.ServerMetadata
    ),
    *_versioned(
        Operation(
            "model_metadata",
            "get",
            "/v2/models/{name}",
            "Inputs, outputs",
            documents.ModelMetadata,
            NO_MODEL,
        )
    ),
    *_versioned(
        Operation(
            "model_ready",
            "get",
            "/v2/models/{name}/ready",
            "The model answers",
            documents.ModelReady,
            NO_MODEL,
        )
    ),
    *_versioned(
        Operation(
            "model_config",
            "get",
            "/v2/models/{name}/config",
            "Triton's configuration of a model",
            documents.ModelConfig,
            NO_MODEL,
        )
    ),
    *_versioned(
        Operation(
            "infer",
            "post",
            "/v2/models/{name}/infer",
            "Classify images",
            documents.InferAnswer,
            {
                **NO_MODEL,
                **BODY_ERRORS,
                415: "Not an allowed image format or content encoding.",
                429: "The queue is full; try again after Retry-After seconds.",
            },
            body=documents.InferRequest,
            binary=True,
            body_required=True,
        )
    ),
    Operation(
        "index",
        "post",
        "/v2/repository/index",
        "Every version of every model",
        INDEX_SCHEMA,
        BODY_ERRORS,
        body=documents.IndexRequest,
    ),
    *(
        operation
        for verb, summary in (
            ("load", "Load a model, or its new version"),
            ("unload", "Take a model out of service"),
        )
        for operation in _versioned(
            Operation(
                verb,
                "post",
                f"/v2/repository/models/{{name}}/{verb}",
                summary,
                documents.Done,
                {
                    **BODY_ERRORS,
                    403: "Management is off.",
                    404: "No such model or version.",
                },
                body=documents.ManagementRequest,
            )
        )
    ),
)


def add_schemas(document: dict[str, Any]) -> None:
    """Add the schemas that the operations name to FastAPI's document, in place."""
    models: set[type[BaseModel]] = {documents.ErrorDocument, documents.IndexEntry}
    for operation in OPERATIONS:
        models |= {m for m in (operation.answer, operation.body) if isinstance(m, type)}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=SCHEMAS + "{model}"
    )
    document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])


def describe_operation(operation: Operation) -> dict[str, Any]:
    """The operation's part of the document."""
    described: dict[str, Any] = {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)\}", operation.path)
        ],
        "responses": {
            "200": {
                "description": "The answer.",
                "content": _content(operation.answer, operation.binary),
            },
            **{
                str(status): {
                    "description": text,
                    "content": _content(operation.error, binary=False),
                }
                for status, text in sorted(operation.errors.items())
            },
        },
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": _content(operation.body, operation.binary),
        }
    if operation.binary:
        described["parameters"].append(
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "Bytes of the JSON when binary tensor data follows it.",
                "schema": {"type": "integer", "minimum": 1},
            }
        )
    return described


def _content(schema: type[BaseModel] | dict[str, Any], binary: bool) -> dict[str, Any]:
    json = schema if isinstance(schema, dict) else {"$ref": SCHEMAS + schema.__name__}
    content: dict[str, Any] = {"application/json": {"schema": json}}
    if binary:
        octets = {"type": "string", "format": "binary"}
        content["application/octet-stream"] = {
            "schema": {**octets, "description": "The JSON, then the tensors' binary data."}
        }
    return content
