"""Which files of a folder are taken for images, for every command alike."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from isoserve.commands.image_paths import find_images
from isoserve.models.image_files.folder import SUFFIXES, image_files
from isoserve.models.image_files.header import FORMATS


def test_the_endings_are_those_that_pillow_has_for_our_formats() -> None:
    Image.init()
    theirs = {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS}
    assert set(SUFFIXES) == theirs
    assert list(SUFFIXES) == sorted(SUFFIXES)


def test_training_and_predicting_find_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="the train extra is missing")
    from isoserve.models.card import InputSpec
    from isoserve.training.data import load_class_folders

    for name in ("a/1.jfif", "a/2.apng", "a/deeper/3.JPE", "b/1.png", "b/.hidden.png", "b/x.xcf"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, "PNG")
    images = load_class_folders(tmp_path, InputSpec(height=4, width=4))
    assert images.labels.tolist() == [0, 0, 0, 1]
    assert len(list(find_images([tmp_path]))) == 4


def test_each_folder_is_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "z/1.png", "c/2.png", "c/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)]
    assert found == ["a.png", "b.png", "c/1.png", "c/2.png", "z/1.png"]


def test_what_is_no_file_is_left_out_and_a_broken_link_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may be 107 bytes long
    for name in ("a.png", "e.png"):
        Path(name).touch()
    os.mkfifo("b.png")
    Path("c.png").symlink_to("b.png")
    Path("d.png").symlink_to("nowhere")
    Path("f.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("g.png")
        assert [path.name for path in image_files(Path())] == ["a.png", "d.png", "e.png"]
