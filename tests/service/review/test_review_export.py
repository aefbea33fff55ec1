"""The folder that an export writes: whole or not at all, with all that the base has."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_bytes import colour

pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install 'isoserve[review]'")

from isoserve.models.errors import InputError
from isoserve.service.review.export import export_images

RED, GRAY = colour(255, 0, 0), colour(128, 128, 128)


class Labelled:
    """A store with one labelled image."""

    def labelled(self) -> list[tuple[str, str, bytes]]:
        return [("gray things", "0123456789abcdef0123456789", GRAY)]


def base_with(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RED)
    return root


def test_all_images_of_the_base_that_training_takes_come_along(tmp_path: Path) -> None:
    taken = ("train/red/a.png", "train/red/deeper/a.png", "train/blue/B.JFIF")
    left = ("train/red/notes.txt", "train/.cache/a.png", "train/loose.png", "test/red/t.png")
    base = base_with(tmp_path / "base", *taken, *left)
    target = tmp_path / "next"
    written = export_images(Labelled(), target, base)
    assert written == {"gray things": 1, "red": 2, "blue": 1}
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {
        "gray things/reviewed-0123456789abcdef0123.png",
        "red/a.png",
        "red/deeper/a.png",
        "blue/B.JFIF",
    }


def test_a_base_without_images_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    base = base_with(tmp_path / "base", "red/notes.txt")
    with pytest.raises(InputError, match="no images in"):
        export_images(Labelled(), tmp_path / "next", base)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_target_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    target = tmp_path / "file" / "next"
    with pytest.raises(InputError, match="cannot export to '.*file/next': Not a directory"):
        export_images(Labelled(), target)
