"""Compressed request bodies, never larger than a plain one may be."""

from __future__ import annotations

import zlib

from isoserve.service.errors import Problem

WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
"""zlib's name for each format."""


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The plain body.

    Args:
        body: as it came.
        encoding: the Content-Encoding header's value.
        limit: most bytes of the plain body.

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
    stream = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise Problem(400, "bad_encoding", "the compressed body is broken") from error
    if len(plain) > limit:
        raise Problem(413, "body_too_large", f"the plain body is over the limit of {limit} bytes")
    if not stream.eof or stream.unused_data:
        raise Problem(400, "bad_encoding", "the compressed body ends early, or more follows it")
    return plain
