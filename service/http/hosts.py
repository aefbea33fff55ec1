"""Whom a request takes this server for: a name that anybody could point here is not believed.

A page of another site may have its own name point to this machine (DNS rebinding); to the browser
its requests are then of the same origin, and only the Host header tells.
"""

from __future__ import annotations

from ipaddress import ip_address

from isoserve.service.errors import Problem
from isoserve.service.observability.request_record import Headers

PROBES = ("/healthz/", "/v2/health/", "/metrics")
"""Asked by machines under whatever name or address they have."""

MANAGEMENT = ("/v2/repository/", "/v1/review/")


class Hosts:
    """The names under which this server answers.

    Args:
        allowed: of the settings, with commas between them; ``*.example.com`` takes any below it.
        bound: the address that is listened on.
    """

    def __init__(self, allowed: str, bound: str) -> None:
        names = [name.strip().lower() for name in allowed.split(",")]
        self._allowed = frozenset(name for name in names if name)
        self._below = tuple(name[1:] for name in self._allowed if name.startswith("*."))
        self._bound = bound.lower()
        self._on_loopback = is_local(bound) and bound not in ("0.0.0.0", "::")
        self.are_named = bool(self._allowed) and "*" not in self._allowed
        self._any = "*" in self._allowed

    def refusal(self, path: str, headers: Headers) -> Problem | None:
        """403 where the request's Host is not one of this server's.

        Without names in the settings: of a server on a loopback address where a browser asks or the
        request manages; else only where a browser manages.
        """
        if self._any or path.startswith(PROBES):
            return None
        host, from_page = "", False
        for name, value in headers:
            if name == b"host":
                host = name_of(str(value, "latin-1"))
            elif name == b"origin":
                from_page = True
        if is_local(host) or host == self._bound or is_address(host):
            return None
        if host in self._allowed or (self._below and host.endswith(self._below)):
            return None
        manages = path.startswith(MANAGEMENT)
        if self.are_named or (self._on_loopback and (manages or from_page)):
            return _wrong_host(host)
        if manages and from_page and path.startswith(MANAGEMENT[0]):
            return _wrong_host(host)
        return None


def name_of(host: str) -> str:
    """The Host header's name or address, without the port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_address(host: str) -> bool:
    """Whether it is a number: nobody can point one elsewhere."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Whether it names this machine, wherever it is asked."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return is_address(host) and ip_address(host).is_loopback


def _wrong_host(host: str) -> Problem:
    return Problem(
        403,
        "wrong_host",
        f"this server is not called '{host[:64]}'; allowed_hosts names what it may be called",
        closes=True,
    )
