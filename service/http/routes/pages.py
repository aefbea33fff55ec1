"""The pages: files of ``service/web``, held in memory, under a strict policy."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from isoserve.service.errors import Problem
from isoserve.service.settings import Settings

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

KEEPS_NOTHING = "Images go to this server only and are not kept."
"""The page's word on privacy, as it stands in ``index.html``."""

NO_REVIEW = ' id="review-link" hidden'


def page_routes(settings: Settings) -> APIRouter:
    """``/``, ``/review`` where there is a queue, and the files they load."""
    router = APIRouter(include_in_schema=False)
    pages = _read_files()
    if settings.review_database:
        index = pages["index.html"]
        index.replace(KEEPS_NOTHING, _what_is_kept(settings))
        index.replace(NO_REVIEW, "")

        @router.get("/review")
        async def review(request: Request) -> Response:
            return pages["review.html"].answer(request)

    @router.get("/")
    async def page(request: Request) -> Response:
        return pages["index.html"].answer(request)

    @router.get("/web/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in pages:
            raise Problem(404, "http", "Not Found")
        return pages[name].answer(request)

    return router


class WebFile:
    """A file and its ETag, the digest of what is in it."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._media_type = media_type
        self._set(content)

    def replace(self, old: str, new: str) -> None:
        """Put ``new`` where ``old`` stands; it must stand there once."""
        if self._content.count(old.encode()) != 1:
            raise ValueError(f"{old!r} does not stand exactly once in the page")
        self._set(self._content.replace(old.encode(), new.encode()))

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has it."""
        headers = {**PAGE_HEADERS, "ETag": self._etag}
        if request.headers.get("if-none-match") == self._etag:
            return Response(status_code=304, headers=headers)
        return Response(self._content, headers=headers, media_type=self._media_type)

    def _set(self, content: bytes) -> None:
        self._content = content
        self._etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _read_files() -> dict[str, WebFile]:
    found = {}
    for file in files("isoserve.service").joinpath("web").iterdir():
        media_type = MEDIA_TYPES.get(file.name[file.name.rfind(".") :])
        if media_type is not None:
            found[file.name] = WebFile(file.read_bytes(), media_type)
    return found


def _what_is_kept(settings: Settings) -> str:
    others = (
        f" and {100 * settings.review_sample:g} % of the others" if settings.review_sample else ""
    )
    return (
        f"Images go to this server only. It keeps those that the model does not know{others}, "
        f"for at most {settings.review_days:g} days, for a person to look at."
    )
