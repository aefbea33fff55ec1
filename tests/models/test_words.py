"""Numbers in sentences."""

from models.words import counted


def test_one_is_singular_and_all_else_plural() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(number, "class", "classes") for number in (1, 3)] == ["1 class", "3 classes"]
