"""What ``/openapi.json`` says of routes that read their request themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.routing import Route

from isoserve.models.image_files.header import FORMATS
from isoserve.service.errors import CONTENT_TYPE
from isoserve.service.http.query import DEFAULT_TOP_K
from isoserve.service.http.schemas import ProblemDocument
from isoserve.service.inference_protocol.errors import is_of_protocol
from isoserve.service.inference_protocol.openapi import add_schemas
from isoserve.service.settings import Settings

SCHEMAS = "#/components/schemas/"
PROBLEM = {CONTENT_TYPE: {"schema": {"$ref": SCHEMAS + ProblemDocument.__name__}}}

BINARY = {"type": "string", "format": "binary"}

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


class PredictDocument:
    """The parts of the predict routes' documents that depend on the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def image(self, field: str) -> dict[str, Any]:
        """Parameters, and a body of one image or of a form with one."""
        images = {f"image/{name.lower()}": {"schema": BINARY} for name in FORMATS}
        octets = {"application/octet-stream": {"schema": BINARY}}
        return self._operation({**images, **octets, **_form({field: BINARY})})

    def images(self, field: str) -> dict[str, Any]:
        """Parameters, and a body of a form with several images."""
        most = self._settings.max_batch_images
        array = {"type": "array", "items": BINARY, "minItems": 1, "maxItems": most}
        return self._operation(_form({field: array}))

    @staticmethod
    def responses(answer: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
        """The answer and the problems."""
        problems: dict[int | str, dict[str, Any]] = {
            status: {"model": ProblemDocument, "description": text}
            for status, text in ERRORS.items()
        }
        return {200: {"model": answer, "description": "The answer."}, **problems}

    def _operation(self, content: dict[str, Any]) -> dict[str, Any]:
        body = {"required": True, "content": content}
        return {"parameters": _parameters(self._settings), "requestBody": body}


def serve_document(api: FastAPI) -> None:
    """Answer with the document as bytes made once: to write it takes 0.1 s of the event loop."""
    made: list[bytes] = []

    async def document(request: Request) -> Response:  # noqa: ARG001
        if not made:
            made.append(await asyncio.to_thread(lambda: orjson.dumps(api.openapi())))
        return Response(made[0], media_type="application/json")

    assert api.openapi_url is not None
    api.router.routes.insert(0, Route(api.openapi_url, document, include_in_schema=False))


def complete_document(document: dict[str, Any]) -> None:
    """Put right, in place, what FastAPI writes of errors, and add the protocol's schemas."""
    for path, operations in document["paths"].items():
        if not is_of_protocol(path):
            _errors_are_problems(operations)
    add_schemas(document)


def _errors_are_problems(operations: dict[str, Any]) -> None:
    """FastAPI documents every error as application/json and its own kind of 422."""
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
