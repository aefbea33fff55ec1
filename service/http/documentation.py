"""Where the documentation's pages find their files, whatever prefix a proxy puts before them."""

from __future__ import annotations

import re

from starlette.types import Scope

DOCS = ("/docs", "/redoc")
SANE_PREFIX = re.compile(rb"(?:/[A-Za-z0-9._~-]+)+/?")


def docs_root(scope: Scope) -> str:
    """What stands before the addresses in the documentation's pages, which a proxy may move."""
    if scope["path"] not in DOCS:
        return ""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-prefix" and SANE_PREFIX.fullmatch(value):
            return str(value, "ascii").rstrip("/")
    return ".." if scope["raw_path"].endswith(b"/") else "."
