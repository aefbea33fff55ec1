"""A file that appears is whole on the disk, also after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isoserve.training.atomic import atomic_path


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    flushed: list[tuple[str, bool]] = []
    flush = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((path.name, target.exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"whole")
    assert flushed == [(temporary.name, False), (tmp_path.name, True)]
    assert target.read_bytes() == b"whole"


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"old"
