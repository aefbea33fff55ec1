"""Numbers and names in sentences."""

from __future__ import annotations


def pluralize(number: int, noun: str, several: str | None = None) -> str:
    """``1 image``, ``2 images``; ``several`` where the plural is not formed by an s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def printable(name: str) -> str:
    """A path or an argument as text that any file and terminal takes.

    What the file system holds need not be UTF-8; such bytes become U+FFFD.
    """
    return name.encode(errors="surrogateescape").decode(errors="replace")
