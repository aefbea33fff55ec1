"""Bearer tokens: who may ask what. A file of one a line, read again when it changes.

A line is a token alone, or ``NAME ROLE TOKEN``, with commas between several roles. The name stands
in log and metrics.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from starlette.types import Scope

from isoserve.models.errors import InputError
from isoserve.models.regular_file import read_regular
from isoserve.service.errors import Problem

log = logging.getLogger("isoserve.tokens")

SHORTEST_TOKEN = 16
MOST_BYTES = 2**20
LOOK_AGAIN_SECONDS = 1.0

PREDICT, REVIEW, MANAGE = ROLES = ("predict", "review", "manage")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is; one without a name has an empty one."""

    name: str
    roles: frozenset[str]


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
        return self.refusal(scope) is None

    def refusal(self, scope: Scope) -> Problem | None:
        """401 without a token, 403 with one that has not the role; None: it may be answered.

        ``scope["caller"]`` is then whose token it is, if one was given.
        """
        path: str = scope["path"]
        caller = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                caller = self._tokens.caller(value)
                break
        if caller is not None:
            scope["caller"] = caller
        if path.startswith(self._open_paths) or (path == "/" and self._page_is_open):
            return None
        if caller is None:
            return _unauthorized()
        role = role_for(path)
        if role is None or role in caller.roles:
            return None
        whose = f"the token of '{caller.name}'" if caller.name else "this token"
        return Problem(403, "role", f"{whose} has not the role '{role}'", closes=True)


def role_for(path: str) -> str | None:
    """The role that a request to the path needs; None: any token will do."""
    if path.startswith("/v2/repository/models"):
        return MANAGE
    if path.startswith("/v1/review/"):
        return None  # the review queue sees to it itself: it has tokens of its own, too
    if path.startswith("/v1/predict") or (path.startswith("/v2/") and path.endswith("/infer")):
        return PREDICT
    return None


def _unauthorized() -> Problem:
    problem = Problem(
        401, "unauthorised", "send 'Authorization: Bearer TOKEN' with a token of this server"
    )
    problem.headers["www-authenticate"] = "Bearer"
    return problem


class Tokens:
    """The tokens of a file.

    Several may hold at once, so that one is rotated by adding the new, changing the clients, and
    removing the old. A file that becomes unreadable or bad leaves the tokens as they were.

    Args:
        plain: the roles of a token that stands alone in its line.
    """

    def __init__(self, path: Path, plain: frozenset[str] = frozenset((PREDICT, MANAGE))) -> None:
        self._path = path
        self._plain = plain
        self._look_again = monotonic() + LOOK_AGAIN_SECONDS
        self._seen = _fingerprint(path)
        self._callers = _read(path, plain)

    def allow(self, authorization: bytes) -> bool:
        """Whether the value of an Authorization header carries one of the tokens."""
        return self.caller(authorization) is not None

    def caller(self, authorization: bytes) -> Caller | None:
        """Whose token the value of an Authorization header carries; None for no token of these.

        Takes as long for a wrong token as for a right one, whichever it is.
        """
        self._refresh()
        scheme, _, token = authorization.partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        found = None
        for digest, caller in self._callers:
            if hmac.compare_digest(digest, given):
                found = caller
        return found if scheme.lower() == b"bearer" else None

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
            self._callers = _read(self._path, self._plain)
            log.info("%d tokens read from %s", len(self._callers), self._path)
        except InputError as error:
            log.error("the tokens stay as they were: %s", error)


def _fingerprint(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _read(path: Path, plain: frozenset[str]) -> list[tuple[bytes, Caller]]:
    try:
        lines = str(read_regular(path, MOST_BYTES), "ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not plain ASCII"
        raise InputError(f"the token file '{path}' cannot be read: {reason}") from error
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise InputError(f"the token file '{path}' has no token: write one a line")
    return [_parse(line, number, path, plain) for number, line in enumerate(lines, 1)]


def _parse(line: str, number: int, path: Path, plain: frozenset[str]) -> tuple[bytes, Caller]:
    fields = line.split()
    name, roles, token = ("", "", fields[0]) if len(fields) == 1 else ("", "", "")
    if len(fields) == 3:
        name, roles, token = fields
    if len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"token {number} of '{path}' has {len(token)} characters or its line is not TOKEN or "
            f"NAME ROLE TOKEN; a token has at least {SHORTEST_TOKEN} and no space"
        )
    digest = hashlib.sha256(token.encode()).digest()
    if not name:
        return digest, Caller("", plain)
    given = frozenset(roles.split(","))
    if not NAME.fullmatch(name) or not given <= frozenset(ROLES):
        raise InputError(
            f"token {number} of '{path}' is of '{name}' with the roles '{roles}': a name has up to "
            f"64 letters, digits, dots, dashes and underscores, and roles are {', '.join(ROLES)}"
        )
    return digest, Caller(name, given)
