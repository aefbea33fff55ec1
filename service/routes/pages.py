"""The page at ``/``: files of ``service/web``, held in memory, under a strict policy."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from service.problems import Problem

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

PAGE_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing from another host, no inline script or style, not within another site's frame."""


class WebFiles:
    """The files of a page, read once; their digests are their ETags."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for file in files("service").joinpath("web").iterdir():
            suffix = file.name[file.name.rfind(".") :]
            if suffix in MEDIA_TYPES:
                content = file.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[file.name] = (content, MEDIA_TYPES[suffix], etag)

    def answer(self, name: str, request: Request) -> Response:
        """The file, or 304 where the browser has it.

        Raises:
            Problem: 404, there is no such file.
        """
        if name not in self._files:
            raise Problem(404, "http", "Not Found")
        content, media_type, etag = self._files[name]
        headers = {**PAGE_HEADERS, "ETag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)


def page_routes() -> APIRouter:
    """``/`` and the files it loads."""
    router = APIRouter(include_in_schema=False)
    web = WebFiles()

    @router.get("/")
    async def page(request: Request) -> Response:
        return web.answer("index.html", request)

    @router.get("/web/{name}")
    async def file(name: str, request: Request) -> Response:
        return web.answer(name, request)

    return router
