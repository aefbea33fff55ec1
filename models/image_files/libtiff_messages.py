"""libtiff writes what it thinks of a file to standard error, a line or a thousand: not here.

Pillow silences its warnings and not its errors, and has no door to them; so the library that Pillow
has loaded is asked itself. What is wrong with a file is in the refusal; the server's log is not for
strangers' files to write.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from ctypes.util import find_library
from pathlib import Path

import PIL
from PIL import features


def silence() -> None:
    """Set libtiff's handlers of errors and warnings to none, for this process."""
    if not features.check("libtiff"):
        return
    bundled = (Path(PIL.__file__).parent.parent / "pillow.libs").glob("libtiff*")
    shared = find_library("tiff")
    for path in (*map(str, bundled), *([shared] if shared else [])):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                handler = getattr(library, name)
                handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                handler(None)
