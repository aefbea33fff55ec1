"""Open files: a connection is one, and the usual limit of 1,024 is less than a server may need.

Where they run out, no connection is taken or refused any more and no model file can be opened.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("isoserve.descriptors")

SPARE = 256
"""For model files, databases, workers' pipes, and connections that are just being turned away."""


GRPC_SHARE = 4
"""Of the connections there is room for, one in so many is kept for gRPC: a connection of its
carries many calls, and idle ones must not take HTTP's."""


def grpc_connections(room: int) -> int:
    """How many of the connections there is room for are gRPC's; the others are HTTP's."""
    return max(1, room // GRPC_SHARE)


GRPC_DESCRIPTORS = 3
"""Of a connection to gRPC: the client's, and both ends of the one it is joined to."""


def raise_file_limit(wanted: int, *, grpc: bool) -> int:
    """Raise this process's limit of open files as far as is needed and allowed.

    Args:
        grpc: whether some of the connections are gRPC's.

    Returns:
        How many connections to take at most: ``wanted``, or less, which is logged.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    extra = (GRPC_DESCRIPTORS - 1) * grpc_connections(wanted) if grpc else 0
    if soft < wanted + extra + SPARE:
        soft = min(wanted + extra + SPARE, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(soft - SPARE, soft // 2) * wanted // (wanted + extra)
    if room < wanted:
        log.warning(
            "at most %d connections at a time, not %d: the limit of open files is %d (ulimit -n)",
            *(room, wanted, soft),
        )
    return min(room, wanted)
