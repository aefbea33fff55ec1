"""Compressed request bodies, never larger than a plain one may be."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from isoserve.service.errors import Problem

WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
"""zlib's name for each format."""

PIECE_BYTES = 256 * 2**10
"""Of the compressed body, and so much of the plain one is made at a time: zlib's own copies of
what it has not used yet stay small."""


def decompress(
    body: bytes, encoding: bytes, limit: int, charge: Callable[[int], None]
) -> bytes | bytearray:
    """The plain body.

    Args:
        body: as it came.
        encoding: the Content-Encoding header's value.
        limit: most bytes of the plain body.
        charge: is called with the bytes of the plain body before they are more; may refuse.

    Raises:
        Problem: 415 for another encoding, 400 for broken data, 413 over the limit.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in WINDOW_BITS:
        shown = encoding[:32].decode("latin-1")
        raise Problem(
            415, "bad_encoding", f"Content-Encoding '{shown}' is not taken: gzip or deflate are"
        )
    return inflate(body, WINDOW_BITS[encoding], limit, charge)


def inflate(body: bytes, window_bits: int, limit: int, charge: Callable[[int], None]) -> bytearray:
    """The plain body of a compressed one; arguments and errors as of :func:`decompress`."""
    stream = zlib.decompressobj(window_bits)
    plain = bytearray()
    start = 0
    try:
        while not stream.eof and start < len(body):
            rest: bytes = body[start : start + PIECE_BYTES]
            start += len(rest)
            more = True
            while more and not stream.eof:
                charge(min(len(plain) + PIECE_BYTES, limit))
                piece = stream.decompress(rest, PIECE_BYTES)
                plain += piece
                if len(plain) > limit:
                    raise _too_large(limit)
                rest = stream.unconsumed_tail
                more = bool(rest) or len(piece) == PIECE_BYTES
    except zlib.error as error:
        raise _broken("the compressed body is broken") from error
    if not stream.eof or stream.unused_data or start < len(body):
        raise _broken("the compressed body ends early, or more follows it")
    charge(len(plain))
    return plain


def _too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"the plain body is over the limit of {limit} bytes")


def _broken(detail: str) -> Problem:
    return Problem(400, "bad_encoding", detail)
