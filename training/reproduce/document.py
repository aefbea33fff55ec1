"""A report as a list of parts, rendered as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; a long one is folded away behind its title."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: str = ""
    """Title to fold it behind; empty shows it."""


@dataclass(frozen=True)
class Picture:
    """A PNG beside the report, with its caption."""

    file: str
    caption: str


Part = Heading | Paragraph | Table | Picture


def to_markdown(parts: Sequence[Part]) -> str:
    """Markdown as GitHub reads it, showing every text as it is; pictures are links."""
    return "\n\n".join(_markdown(part) for part in parts) + "\n"


def to_html(title: str, parts: Sequence[Part], folder: Path) -> str:
    """One HTML page with the pictures of ``folder`` inside it; it loads nothing.

    Raises:
        OSError: a picture cannot be read.
    """
    body = "\n".join(_html(part, folder) for part in parts)
    return _PAGE.format(title=html.escape(title), body=body)


def _markdown(part: Part) -> str:
    if isinstance(part, Heading):
        return f"{'#' * part.level} {_escaped(part.text)}"
    if isinstance(part, Paragraph):
        return _escaped(part.text)
    if isinstance(part, Picture):
        caption = _escaped(part.caption)
        return f"![{caption}]({part.file})\n\n*{caption}*"
    header, *rows = (tuple(_escaped(text) for text in row) for row in (part.header, *part.rows))
    lines = [header, ("---",) * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    if not part.folded:
        return table
    return f"<details><summary>{html.escape(part.folded)}</summary>\n\n{table}\n\n</details>"


def _escaped(text: str) -> str:
    """On one line, with a backslash before all that Markdown would read as more than itself."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


# Brackets are a link before others alone, and an underscore is emphasis at the edge of a word.
_SPECIAL = re.compile(r"[\\`*|$<~]|](?=[(\[])|&(?=[#\w]+;)|(?<![^\W_])_|_(?![^\W_])")


def _html(part: Part, folder: Path) -> str:
    if isinstance(part, Heading):
        return f"<h{part.level}>{html.escape(part.text)}</h{part.level}>"
    if isinstance(part, Paragraph):
        return f"<p>{html.escape(part.text)}</p>"
    if isinstance(part, Picture):
        data = base64.b64encode((folder / part.file).read_bytes()).decode()
        caption = html.escape(part.caption)
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    head = "".join(f"<th>{html.escape(text)}</th>" for text in part.header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
        for row in part.rows
    )
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    if not part.folded:
        return table
    return f"<details><summary>{html.escape(part.folded)}</summary>{table}</details>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block;
  overflow-x: auto; }}
th, td {{ border: 1px solid #ccc; padding: 3px 8px; text-align: left; }}
td {{ white-space: nowrap; }}
th {{ background: #f2f2f2; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: 13px; }}
summary {{ cursor: pointer; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
