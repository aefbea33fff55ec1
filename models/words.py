"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, several: str | None = None) -> str:
    """``1 image``, ``2 images``; ``several`` where the plural is not formed by an s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"
