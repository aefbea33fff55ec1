"""Which names a class may be given by a person: it becomes a folder's name, on any system."""

from __future__ import annotations

import re

_FOLDER_NAME = re.compile(r'(?! |\.)[^\x00-\x1f/\\:*?"<>|]{1,100}(?<! |\.)')
_MOST_BYTES = 255  # of a folder's name in UTF-8, on the usual file systems

CLASS_NAME_RULE = f"must be 1 to 100 characters that can name a folder, {_MOST_BYTES} bytes at most"


def can_name_a_folder(name: str) -> bool:
    """Whether the name keeps :data:`CLASS_NAME_RULE`."""
    return _FOLDER_NAME.fullmatch(name) is not None and len(name.encode()) <= _MOST_BYTES
