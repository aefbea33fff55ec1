"""Bearer tokens: who may ask. A file of one token a line, read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
from pathlib import Path
from time import monotonic

from starlette.types import Scope

from isoserve.models.errors import InputError
from isoserve.models.regular_file import read_regular

log = logging.getLogger("isoserve.tokens")

SHORTEST_TOKEN = 16
MOST_BYTES = 2**20
LOOK_AGAIN_SECONDS = 1.0


class Guard:
    """Lets a request in that has a token, or that needs none.

    Args:
        open_paths: beginnings of the paths that need none; ``/`` is the page there alone.
    """

    def __init__(self, tokens: Tokens, open_paths: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._open_paths = tuple(path for path in open_paths if path != "/")
        self._page_is_open = "/" in open_paths

    def is_authorized(self, scope: Scope) -> bool:
        """Whether the HTTP request of this scope is to be answered."""
        if scope["path"].startswith(self._open_paths):
            return True
        if scope["path"] == "/" and self._page_is_open:
            return True
        for name, value in scope["headers"]:
            if name == b"authorization":
                return self._tokens.allow(value)
        return False


class Tokens:
    """The tokens of a file.

    Several may hold at once, so that one is rotated by adding the new, changing the clients, and
    removing the old. A file that becomes unreadable or bad leaves the tokens as they were.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look_again = monotonic() + LOOK_AGAIN_SECONDS
        self._seen = _fingerprint(path)
        self._digests = _read(path)

    def allow(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header carries one of the tokens.

        Takes as long for a wrong token as for a right one, whichever it is.
        """
        self._refresh()
        scheme, _, token = authorization.partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(digest, given)
        return found and scheme.lower() == b"bearer"

    def _refresh(self) -> None:
        now = monotonic()
        if now < self._look_again:
            return
        self._look_again = now + LOOK_AGAIN_SECONDS
        seen = _fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._digests = _read(self._path)
            log.info("%d tokens read from %s", len(self._digests), self._path)
        except InputError as error:
            log.error("the tokens stay as they were: %s", error)


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _read(path: Path) -> list[bytes]:
    try:
        lines = str(read_regular(path, MOST_BYTES), "ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not plain ASCII"
        raise InputError(f"the token file '{path}' cannot be read: {reason}") from error
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise InputError(f"the token file '{path}' has no token: write one a line")
    for number, token in enumerate(tokens, 1):
        if len(token) < SHORTEST_TOKEN or any(letter.isspace() for letter in token):
            raise InputError(
                f"token {number} of '{path}' has {len(token)} characters or a space in it; "
                f"a token has at least {SHORTEST_TOKEN} and none"
            )
    return [hashlib.sha256(token.encode()).digest() for token in tokens]
