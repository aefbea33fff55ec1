"""The query of a predict request, checked."""

from __future__ import annotations

from urllib.parse import parse_qsl

from isoserve.service.batching.predictor import Query
from isoserve.service.errors import Problem

DEFAULT_TOP_K = 1
PARAMETERS = ("model", "version", "top_k", "alpha", "explain")


def read_query(query_string: bytes, alpha: float) -> Query:
    """Check the query.

    Raises:
        Problem: 422, a parameter is unknown, repeated, or out of its range.
    """
    if not query_string:
        return Query(None, None, DEFAULT_TOP_K, alpha, False)
    given: dict[str, str] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name not in PARAMETERS:
            raise _bad(name, f"is unknown; known are {', '.join(PARAMETERS)}")
        if name in given:
            raise _bad(name, "is given twice")
        given[name] = value
    return Query(
        given.get("model"),
        _whole(given, "version", None),
        _whole(given, "top_k", DEFAULT_TOP_K) or DEFAULT_TOP_K,
        _share(given.get("alpha"), alpha),
        _yes(given, "explain"),
    )


def _whole(given: dict[str, str], name: str, default: int | None) -> int | None:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise _bad(name, f"must be a whole number of at least 1, not '{text[:32]}'")
    return int(text)


def _share(text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise _bad("alpha", f"must lie between 0 and 1, both excluded, not '{text[:32]}'")
    return value


def _yes(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise _bad(name, f"must be true or false, not '{text[:32]}'")
    return text == "true"


def _bad(name: str, what: str) -> Problem:
    return Problem(422, "bad_parameter", f"the query parameter '{name[:32]}' {what}")
