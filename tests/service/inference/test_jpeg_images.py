"""JPEGs as a server meets them: cut, closed again, enormous, with junk behind them."""

from __future__ import annotations

import struct
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from image_answers import LIMITS, SPEC, answer, many_scans, png, refusal_of, with_height
from image_bytes import (
    encode,
    exif,
    noise,
    segment,
    with_segments,
)
from PIL import Image

import isoserve.models.preprocessing
from isoserve.models.card import InputSpec
from isoserve.service.inference.images import (
    ImageLimits,
    InvalidImage,
    check_header,
    decode,
)

END = b"\xff\xd9"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_with_fewer_rows_than_it_declares_is_refused(
    options: dict[str, Any], mode: str
) -> None:
    body = encode("JPEG", noise(64, 64, mode), **options)
    assert answer(body) == "served"
    for height in (65, 81, 128, 500, 3000):
        assert answer(with_height(body, height)) == "truncated"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_cut_and_closed_again_is_refused(share: float) -> None:
    body = encode("JPEG", noise(96, 96))
    cut = body[: int(len(body) * share)].rstrip(b"\xff")
    assert answer(cut + END) == "truncated"
    assert answer(cut + bytes(len(body) - len(cut))) == "truncated"  # a tail never written


def scan_starts(body: bytes) -> list[int]:
    """Where each scan of a JPEG begins, its tables before it included."""
    starts = [at for at in range(len(body)) if body[at : at + 2] == b"\xff\xda"]
    return starts[:1] + [
        max(body.rfind(b"\xff\xc4", before, at), before) if b"\xff\xc4" in body[before:at] else at
        for before, at in pairwise(starts)
    ]


def test_a_progressive_jpeg_is_refused_where_its_first_scan_is_short() -> None:
    body = encode("JPEG", noise(96, 96), progressive=True)
    first, second, *others = scan_starts(body)
    short = body[: (first + second) // 2].rstrip(b"\xff")
    assert answer(short + body[second:]) == "truncated"
    assert answer(short + END) == "truncated"
    for at, after in zip((second, *others), (*others, len(body) - 2), strict=True):
        missing = body[: (at + after) // 2].rstrip(b"\xff")
        assert answer(missing + body[after:]) == "served"  # coarser, and whole
        assert answer(missing + END) == "served"
        assert answer(missing) == "truncated"
        assert answer(missing + bytes(99)) == "truncated"


FOREIGN = {
    "nothing": b"",
    "another image": encode("JPEG", noise(16, 16)),
    "a frame header": encode("JPEG")[encode("JPEG").index(b"\xff\xc0") :],
    "a marker that does not exist": b"\xff\x05abc",
    "a reserved marker": b"\xff\xf0\0\4ab",
    "a length beyond the end": b"\xff\xe1\xff\xf0abc",
    "zeros": bytes(4096),
    "text": b"hello world " * 9,
    "restart markers": b"\xff\xd3" * 9,
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_whole_but_for_its_end_marker_is_served_whatever_follows(
    foreign: str, options: dict[str, Any], mode: str
) -> None:
    body = encode("JPEG", noise(64, 64, mode), **options)
    shown = decode(body, SPEC, LIMITS)
    assert np.array_equal(decode(body[:-2] + FOREIGN[foreign], SPEC, LIMITS), shown)
    assert np.array_equal(decode(body + FOREIGN[foreign], SPEC, LIMITS), shown)
    for rows in (81, 500):
        assert answer(with_height(body, rows)[:-2] + FOREIGN[foreign]) == "truncated"
    cut = body[: len(body) * 2 // 3].rstrip(b"\xff") + FOREIGN[foreign]
    assert answer(cut) in ("truncated", "corrupt")


@pytest.mark.parametrize("junk", [b"\0", b"ab", b"\xff", b"\0" * 999])
@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xFE])
def test_stray_bytes_behind_metadata_are_passed_over(junk: bytes, marker: int) -> None:
    body = encode("JPEG")
    crowded = with_segments(body, segment(marker, exif(1)) + junk)
    assert np.array_equal(decode(crowded, SPEC, LIMITS), decode(body, SPEC, LIMITS))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_an_honest_gray_corner_is_no_filler(options: dict[str, Any]) -> None:
    gray = Image.new("RGB", (96, 96), (128, 128, 128))
    gray.paste(noise(48, 48), (0, 0))
    body = encode("JPEG", gray, quality=1, **options)
    assert answer(body[:-2] + b"abcdefabcdef" + END) == "served"
    for rows in (97, 200):
        assert answer(with_height(body[:-2] + b"abcdefabcdef" + END, rows)) in (
            "truncated",
            "served" if rows == 97 else "truncated",  # within the last blocks
        )


@pytest.mark.parametrize(("place", "value"), [(4, 12), (4, 16), (1, 0xC3), (1, 0xC5), (1, 0xCB)])
def test_kinds_of_jpeg_that_are_not_read_are_named(place: int, value: int) -> None:
    body = encode("JPEG")
    frame = body.index(b"\xff\xc0")
    changed = body[: frame + place] + bytes([value]) + body[frame + place + 1 :]
    refusal = refusal_of(changed)
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (415, "format_not_allowed")
    assert "not supported" in refusal.detail
    with pytest.raises(InvalidImage):
        check_header(changed, LIMITS)


def test_a_damaged_jpeg_that_viewers_show_is_served_unless_rows_are_missing() -> None:
    body = encode("JPEG", noise(64, 64))
    tables = body.index(b"\xff\xc4")
    junk = body[:tables] + b"some junk" + body[tables:]
    assert np.array_equal(decode(junk, SPEC, LIMITS), decode(body, SPEC, LIMITS))
    assert answer(with_height(junk, 200)) == "truncated"


def large_jpeg(width: int, height: int, **options: Any) -> bytes:
    return encode("JPEG", Image.new("RGB", (width, height), (90, 120, 40)), quality=60, **options)


@pytest.mark.parametrize("size", [(6000, 4000), (8064, 6048)])
def test_jpegs_of_24_and_48_megapixels_are_served(size: tuple[int, int]) -> None:
    body = large_jpeg(*size)
    check_header(body, LIMITS)
    shown = decode(body, SPEC, LIMITS).astype(int)
    assert np.abs(shown - (90, 120, 40)).max() <= 3


def test_a_jpeg_is_bound_by_what_decoding_costs() -> None:
    assert answer(with_height(large_jpeg(8200, 64), 8200)) == "too_many_pixels"
    progressive = large_jpeg(6000, 4000, progressive=True)
    assert answer(progressive) == "served"
    small = ImageLimits(max_pixels=5_000_000)
    assert answer(progressive, small) == "too_many_pixels"  # it is held whole
    assert answer(large_jpeg(6000, 4000), small) == "served"
    # A large input leaves nothing to be saved.
    with pytest.raises(InvalidImage, match="6000 x 4000 .* MB to decode"):
        decode(large_jpeg(6000, 4000), InputSpec(height=2000, width=2000), small)
    quick = ImageLimits(max_decode_seconds=0.001)
    assert answer(png(1000, 1000), quick) == "too_many_pixels"


def test_a_jpeg_full_of_exif_blocks_is_harmless() -> None:
    tiff = b"Exif\0\0MM\0*\0\0\0\x08\x15\x00" + struct.pack(">HHII", 0x9000, 7, 60_000, 8) * 5376
    body = encode("JPEG")
    crowded = with_segments(body, *[segment(0xE1, tiff)] * 100)
    assert np.array_equal(decode(crowded, SPEC, LIMITS), decode(body, SPEC, LIMITS))


def test_jpeg_scans_are_capped_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(encode("JPEG", progressive=True)) == "served"
    monkeypatch.setattr(isoserve.models.preprocessing, "decode_jpeg", never)
    assert answer(many_scans(LIMITS.max_jpeg_scans + 1)) == "too_many_scans"


def test_of_a_jpeg_that_comes_row_by_row_no_decoder_reads_a_second_scan() -> None:
    body = encode("JPEG", noise(64, 64))
    scan = body[body.index(b"\xff\xda") : -2]
    several = body[:-2] + 2000 * scan + END
    started = time.process_time()
    assert answer(several) == "corrupt"
    assert time.process_time() - started < 2


def never(*_: object) -> None:
    raise AssertionError("this is not to be reached")
