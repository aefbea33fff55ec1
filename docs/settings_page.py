"""Writes docs/settings.md out of the Settings class: python docs/settings_page.py

A setting is described once, in its field; a test compares the page with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from isoserve.commands.options import flag
from isoserve.service.settings import ENV_PREFIX, Settings

LIMITS = {"gt": "over", "ge": "at least", "lt": "below", "le": "at most"}

PAGE = Path(__file__).with_name("settings.md")

HEAD = f"""\
# Settings

<!-- Written by docs/settings_page.py from service/settings; change it there. -->

Each setting is a flag of `isoserve serve` and an environment variable of the same name with the
prefix `{ENV_PREFIX}`; a flag wins over the variable, and that over the default. A value out of its
range, or two that contradict each other, stop the program at once with one line that names both
and exit code 2. An empty variable is as one that is not set, and what Kubernetes sets for a Service
that is named isoserve (`ISOSERVE_PORT=tcp://...`) is passed over. `isoserve predict --model` reads
the variables of its limits, its batch size and its alpha too, so that they are the server's.

"""


def settings_page() -> str:
    """The page's text."""
    return HEAD + "\n".join(_section(name, field) for name, field in Settings.model_fields.items())


def _section(name: str, field: FieldInfo) -> str:
    return (
        f"## `{flag(name)}`\n\n"
        f"{field.description}\n\n"
        f"`{ENV_PREFIX}{name.upper()}`, {_kind(field)}, default {_default(field)}\n"
    )


def _kind(field: FieldInfo) -> str:
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in choices)
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind = kinds[0] if kinds else field.annotation
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    limits = [
        f"{words_of_limit} {value:g}"
        for name, words_of_limit in LIMITS.items()
        for entry in field.metadata
        if (value := getattr(entry, name, None)) is not None
    ]
    return " ".join([words[kind], *([" and ".join(limits)] if limits else [])])


def _default(field: FieldInfo) -> str:
    return "none" if field.default in ("", None) else f"`{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(settings_page())
