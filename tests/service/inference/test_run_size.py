"""How many images one run takes: as many as its memory allows."""

from __future__ import annotations

import pytest

from isoserve.service.inference import run_size
from isoserve.service.inference.run_size import largest_run


@pytest.mark.parametrize(
    ("bytes_an_image", "most", "expected"),
    [
        (14_500_000, 32, 4),  # 58 MB; 8 images would take 116
        (100_000, 32, 32),
        (100_000, 24, 24),
        (14_500_000, 3, 3),
        (200_000_000, 32, 1),
    ],
)
def test_a_run_grows_while_its_memory_stays_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, bytes_an_image: int, most: int, expected: int
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        run_size, "_resident_bytes", lambda: 10**8 + max(sizes, default=0) * bytes_an_image
    )
    assert largest_run(sizes.append, most) == expected
    assert sizes[0] == 1
    assert sizes[-1] == expected


def test_the_memory_of_a_run_is_this_process_own() -> None:
    held: list[bytes] = []
    images = largest_run(lambda size: held.append(b"\1" * (30_000_000 * size)), 32)
    assert images in (1, 2)  # 30 MB, and then 90 together
