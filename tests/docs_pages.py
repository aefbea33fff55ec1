"""Reading the documents: their code blocks and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

REPOSITORY = (
    "https://github.com/isoserve/isoserve/blob/main/",
    "https://raw.githubusercontent.com/isoserve/isoserve/main/",
)
"""Where pages that are read outside the repository find its files."""

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


def local_target(page: Path, link: str) -> Path | None:
    """The file of this checkout that a link leads to; None of a link that leads elsewhere."""
    target, _, _ = link.partition("#")
    for place in REPOSITORY:
        if target.startswith(place):
            return ROOT / target.removeprefix(place)
    if not target or "://" in target or target.startswith("mailto:"):
        return None
    return page.parent / target
