"""GIF files (CompuServe, 1989), of which only the first frame is wanted."""

from __future__ import annotations

from isoserve.models.errors import ImageFileError, TruncatedImageError

MAGIC = (b"GIF87a", b"GIF89a")

MAX_BLOCKS = 10_000
"""Of comments and the like before the first frame."""

_EXTENSION, _FRAME, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9


def read_size(body: bytes) -> tuple[int, int]:
    """(width, height) of the screen, enlarged where the first frame goes beyond it.

    Raises:
        ImageFileError: no frame.
    """
    _, frame = _find_frame(body)
    left, top, wide, high = (_u16(body, frame + 1 + 2 * i) for i in range(4))
    return max(_u16(body, 6), left + wide), max(_u16(body, 8), top + high)


def read_first_frame(body: bytes) -> bytes:
    """The file without comments and other extensions before its first frame.

    Raises:
        ImageFileError: no frame.
    """
    control, frame = _find_frame(body)
    return b"".join((body[: _palette_end(body, 10, 13)], control, body[frame:]))


def _find_frame(body: bytes) -> tuple[bytes, int]:
    """(the graphic control extension that applies, where the first frame's descriptor starts)."""
    control = b""
    position = _palette_end(body, 10, 13)
    blocks = 0
    while position < len(body) and body[position] == _EXTENSION:
        start, position = position, position + 2
        while position < len(body) and body[position]:
            position += 1 + body[position]
            blocks += 1
            if blocks > MAX_BLOCKS:
                raise ImageFileError(f"the GIF has more than {MAX_BLOCKS} blocks of comments")
        position += 1
        if body[start + 1 : start + 2] == bytes([_GRAPHIC_CONTROL]):
            control = body[start:position]
    if position + 10 > len(body):
        raise TruncatedImageError(f"the GIF ends after {len(body)} bytes, before its first frame")
    if body[position] != _FRAME:
        raise ImageFileError("the GIF has no frame")
    return control, position


def _palette_end(body: bytes, flags: int, start: int) -> int:
    if len(body) <= flags:
        raise TruncatedImageError(f"the GIF ends after {len(body)} bytes, within its header")
    return start + (3 << (body[flags] & 7) + 1 if body[flags] & 0x80 else 0)


def _u16(body: bytes, start: int) -> int:
    return int.from_bytes(body[start : start + 2], "little")
