"""What mkdocs does not do by itself when it builds the site; named in mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?(?:[\w.]+\.)?(\w+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show the docstrings' cross-references, such as :class:`a.b.Name`, by their last name."""
    return _ROLE.sub(r"<code>\1</code>", html)
