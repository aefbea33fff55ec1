"""The error document of the Open Inference Protocol."""

from __future__ import annotations

import httpx


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert [*document] == ["error"]
    return str(document["error"])
