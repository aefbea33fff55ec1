"""What the program says of itself on stderr."""

from __future__ import annotations

import logging


def configure_logging() -> None:
    """A line an event on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
