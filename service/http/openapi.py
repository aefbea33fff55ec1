"""What ``/openapi.json`` says of the routes that FastAPI does not serve itself."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from isoserve.models.image_files.header import FORMATS
from isoserve.service.errors import CONTENT_TYPE
from isoserve.service.http.query import DEFAULT_TOP_K
from isoserve.service.http.routes.predict import (
    FILE_FIELD,
    FILES_FIELD,
    PREDICT,
    PREDICT_BATCH,
)
from isoserve.service.http.schemas import BatchAnswer, ProblemDocument, Verdict
from isoserve.service.settings import Settings

SCHEMAS = "#/components/schemas/"
PROBLEM = {CONTENT_TYPE: {"schema": {"$ref": SCHEMAS + ProblemDocument.__name__}}}

ERRORS = {
    400: "The body is not a decodable image.",
    404: "No such model or version.",
    408: "The body took too long to arrive.",
    413: "Too many bytes, pixels or images.",
    415: "Not an allowed image format or body type.",
    422: "A parameter is out of its range.",
    429: "The queue is full; try again after Retry-After seconds.",
    503: "No model is ready.",
}


def describe_predict(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add the predict routes and their schemas to FastAPI's document, in place."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in (Verdict, BatchAnswer, ProblemDocument)],
        ref_template=SCHEMAS + "{model}",
    )
    document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    _errors_are_problems(document)
    binary = {"type": "string", "format": "binary"}
    images = {f"image/{name.lower()}": {"schema": binary} for name in FORMATS}
    document["paths"][PREDICT] = {
        "post": {
            "tags": ["predict"],
            "summary": "One image: its class and whether the model knows such images",
            "operationId": "predict",
            "parameters": _parameters(settings),
            "requestBody": {
                "required": True,
                "content": {
                    **images,
                    "application/octet-stream": {"schema": binary},
                    **_form({FILE_FIELD: binary}),
                },
            },
            "responses": _responses(Verdict.__name__),
        }
    }
    document["paths"][PREDICT_BATCH] = {
        "post": {
            "tags": ["predict"],
            "summary": "Several images: a verdict or a problem for each, in order",
            "operationId": "predict_batch",
            "parameters": _parameters(settings),
            "requestBody": {
                "required": True,
                "content": _form(
                    {
                        FILES_FIELD: {
                            "type": "array",
                            "items": binary,
                            "minItems": 1,
                            "maxItems": settings.max_batch_images,
                        }
                    }
                ),
            },
            "responses": _responses(BatchAnswer.__name__),
        }
    }
    return document


def _errors_are_problems(document: dict[str, Any]) -> None:
    """FastAPI documents every error as application/json and its own kind of 422."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    response["content"] = PROBLEM


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"multipart/form-data": {"schema": schema}}


def _parameters(settings: Settings) -> list[dict[str, Any]]:
    def parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
        return {"name": name, "in": "query", "description": description, "schema": schema}

    return [
        parameter("model", "Which model; the default one if left out.", type="string"),
        parameter("version", "Answer only if this version serves.", type="integer", minimum=1),
        parameter(
            "top_k",
            "How many classes to name, most probable first; at most all are.",
            type="integer",
            minimum=1,
            default=DEFAULT_TOP_K,
        ),
        parameter(
            "alpha",
            "Out-of-distribution where p_value is at most this.",
            type="number",
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            default=settings.alpha,
        ),
        parameter(
            "explain",
            "Answer with the picture as the model saw it and its distance to each class.",
            type="boolean",
            default=False,
        ),
    ]


def _responses(schema: str) -> dict[str, Any]:
    return {
        "200": {
            "description": "The answer.",
            "content": {"application/json": {"schema": {"$ref": SCHEMAS + schema}}},
        },
        **{
            str(status): {"description": text, "content": PROBLEM}
            for status, text in ERRORS.items()
        },
    }
