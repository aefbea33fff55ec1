"""Pages of other sites that may ask this server: what a browser wants to hear of that."""

from __future__ import annotations

from isoserve.service.http.csrf import is_cross_origin
from isoserve.service.observability.request_record import Headers

METHODS = b"GET, HEAD, POST"
HEADERS = b"authorization, content-type, traceparent, x-request-id"
EXPOSED = b"x-request-id, retry-after, inference-header-content-length"
KEPT_SECONDS = b"600"


class Cors:
    """The origins of the settings, with commas between them; ``*`` is any."""

    def __init__(self, origins: str) -> None:
        names = [name.strip().lower().rstrip("/") for name in origins.split(",")]
        self._origins = frozenset(name.encode() for name in names if name)

    def allows(self, headers: Headers) -> bool:
        """Whether the request comes from a page that may ask."""
        origin = dict(headers).get(b"origin")
        if origin is None or not self._origins:
            return False
        return b"*" in self._origins or origin.lower() in self._origins

    def is_foreign(self, headers: Headers) -> bool:
        """Whether the request comes from a page of another site that was not let in."""
        return is_cross_origin(headers) and not self.allows(headers)

    def answer_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """What every answer to such a page carries; none where it may not ask."""
        if not self._origins:
            return []
        vary = [(b"vary", b"origin")]
        if not self.allows(headers):
            return vary
        origin = dict(headers)[b"origin"]
        return [
            *vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
        ]

    def preflight_headers(self, method: str, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The answer to a browser that asks before it asks; none to another request."""
        asked = dict(headers)
        if method != "OPTIONS" or b"access-control-request-method" not in asked:
            return []
        if not self.allows(headers):
            return []
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", HEADERS),
            (b"access-control-max-age", KEPT_SECONDS),
        ]
