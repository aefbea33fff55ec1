"""Numbers and names in sentences."""

import os

from isoserve.models.text import pluralize, printable


def test_one_is_singular_and_all_else_plural() -> None:
    assert [pluralize(number, "image") for number in (0, 1, 2)] == [
        "0 images",
        "1 image",
        "2 images",
    ]
    assert [pluralize(number, "class", "classes") for number in (1, 3)] == ["1 class", "3 classes"]


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    assert printable("été/写真") == "été/写真"
    assert printable(os.fsdecode(b"caf\xe9")).encode() == "caf\ufffd".encode()
