"""Errors in the protocol's own form, and which paths are answered in it."""

from __future__ import annotations

import orjson

from isoserve.service.errors import Problem

PREFIX = "/v2"
CONTENT_TYPE = "application/json"


def is_of_protocol(path: str) -> bool:
    """Whether a path is the protocol's."""
    return path.startswith(PREFIX) and path[len(PREFIX) : len(PREFIX) + 1] in ("", "/")


def error_body(problem: Problem) -> bytes:
    """``{"error": "..."}``."""
    return orjson.dumps({"error": problem.detail})
