"""Many images as one uint8 array: in memory, or in an unnamed temporary file where it is large."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from isoserve.models.card import InputSpec
from isoserve.models.errors import ImageFileError
from isoserve.models.preprocessing import decode_pixels
from isoserve.models.regular_file import read_regular

IN_MEMORY_BYTES = 4 << 30
"""A larger array is mapped from a temporary file, and so is one over a quarter of the memory."""

TOLD_EVERY_SECONDS = 10.0


def allocate(shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """An array in memory, or in an unnamed temporary file where it would not fit well."""
    size = math.prod(shape)
    if size <= min(IN_MEMORY_BYTES, _memory_bytes() // 4):
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        # A disk that is full is an error here; later it would be the end of the process.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def chosen(pixels: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """``pixels[indices]``: a view where they are consecutive, else a copy that may be mapped."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return pixels[indices[0] : indices[0] + len(indices)]
    height, width, channels = pixels.shape[1:]
    found = allocate((len(indices), height, width, channels))
    for place, index in enumerate(indices):
        found[place] = pixels[index]
    return found


def digest_of(body: bytes | memoryview) -> bytes:
    """Of a file's bytes; 16 bytes of BLAKE2b, enough to tell any two files apart."""
    return hashlib.blake2b(body, digest_size=16).digest()


def decode_bodies(
    bodies: Iterable[Path | bytes], count: int, spec: InputSpec
) -> tuple[NDArray[np.uint8], list[str], list[bytes]]:
    """Decode ``count`` files, by path or as bytes, on every core, with progress on stderr.

    Returns:
        Pixels [N, H, W, 3], a reason for each file ('' where read), and each file's digest.
    """
    pixels = allocate((count, spec.height, spec.width, 3))
    digests = [b""] * count

    def decode(numbered: tuple[int, Path | bytes]) -> str:
        index, source = numbered
        try:
            body = source if isinstance(source, bytes) else read_regular(source)
            digests[index] = digest_of(body)
            pixels[index] = decode_pixels(body, spec)
        except (ImageFileError, OSError) as error:
            return str(error)
        return ""

    with ThreadPoolExecutor() as pool:
        reasons = list(_with_progress(pool.map(decode, enumerate(bodies)), count))
    return pixels, reasons, digests


def decode_files(paths: Sequence[Path], spec: InputSpec) -> tuple[NDArray[np.uint8], list[str]]:
    """Pixels [N, H, W, 3] of files and a reason for each ('' where read)."""
    pixels, reasons, _ = decode_bodies(paths, len(paths), spec)
    return pixels, reasons


def _with_progress(results: Iterator[str], count: int) -> Iterator[str]:
    """A bar on a terminal; in a pipe a line every :data:`TOLD_EVERY_SECONDS`."""
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(results, "reading images", count, console=console, transient=True)
        return
    told = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        if time.monotonic() - told >= TOLD_EVERY_SECONDS:
            told = time.monotonic()
            click.echo(f"read {done} of {count} images", err=True)


def _memory_bytes() -> int:
    if sys.platform == "win32":
        return 4 * IN_MEMORY_BYTES
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
