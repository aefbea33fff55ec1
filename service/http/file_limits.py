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


def raise_file_limit(wanted: int) -> int:
    """Raise this process's limit of open files as far as is needed and allowed.

    Returns:
        How many connections to take at most: ``wanted``, or less, which is logged.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + SPARE:
        soft = min(wanted + SPARE, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(soft - SPARE, soft // 2)
    if room < wanted:
        log.warning(
            "at most %d connections at a time, not %d: the limit of open files is %d (ulimit -n)",
            *(room, wanted, soft),
        )
    return min(room, wanted)
