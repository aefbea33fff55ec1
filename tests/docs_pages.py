"""Reading the documents: their code blocks and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """The README, where there is one, and every page of docs/."""
    return [path for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if path.exists()]


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of that language, in order."""
    return [text for found, text in _BLOCK.findall(page.read_text()) if found == language]


def links(page: Path) -> list[str]:
    """Targets of the page's links, outside of code."""
    return _LINK.findall(_BLOCK.sub("", page.read_text()))
