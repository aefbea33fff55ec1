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


def escape_control(text: str, kept: str = "") -> str:
    """The text with what a terminal would obey, and all else that has no shape, as ``\\uXXXX``.

    Args:
        kept: such characters that are meant, like the line's end. JSON stays the same JSON.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else _escape(c) for c in text)


def _escape(character: str) -> str:
    """Of characters beyond 16 bits as JSON has them, in two halves."""
    halves = character.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{halves[place : place + 4]}" for place in range(0, len(halves), 4))
