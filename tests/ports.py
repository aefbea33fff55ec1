"""A port for what must be told one before it listens."""

from __future__ import annotations

import random
import socket

BELOW_THE_SYSTEMS_OWN = range(15_000, 32_000)
"""Not those that Linux hands to outgoing connections and to listeners on port 0: another test,
in another process, may open one of these between the look and the use."""


def free_port() -> int:
    """Free on 127.0.0.1 a moment ago, and drawn, so that two tests hardly meet."""
    while True:
        port = random.SystemRandom().choice(BELOW_THE_SYSTEMS_OWN)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
